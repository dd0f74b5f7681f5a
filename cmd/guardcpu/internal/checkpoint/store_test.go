package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/internal/mutate"
)

// state are tensors of both types, one longer than a piece, with bit patterns of all kinds.
func state(seed uint64) []engine.StateTensor {
	rng := rand.New(rand.NewPCG(seed, 1))
	f := make([]float32, pieceLen/4+37)
	for i := range f {
		f[i] = math.Float32frombits(rng.Uint32() &^ (1 << 22)) // signalling NaNs among them, which must stay as they are
	}
	b := make([]byte, 2*(pieceLen/2+5))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return []engine.StateTensor{{Name: "a", F32: f}, {Name: "b", BF16: b}, {Name: "c", F32: []float32{float32(seed)}}}
}

// bits makes NaNs comparable.
func bits(state []engine.StateTensor) (all [][]uint32) {
	for _, s := range state {
		var x []uint32
		for _, v := range s.F32 {
			x = append(x, math.Float32bits(v))
		}
		for _, v := range s.BF16 {
			x = append(x, uint32(v))
		}
		all = append(all, x)
	}
	return all
}

type extra struct{ Note string }

// store is a store with checkpoints 136 and 137 of "unlearn", and what it says.
func store(t *testing.T) (*Store, *[]string) {
	t.Helper()
	var said []string
	s := &Store{Dir: filepath.Join(t.TempDir(), "checkpoints"), Origin: Origin{"m", "d", "c"}, Version: "1", Say: func(text string) { said = append(said, text) }}
	for _, step := range []int{135, 136, 137} {
		require.NoError(t, s.Save("unlearn", step, extra{"x"}, state(uint64(step))))
	}
	require.NoError(t, s.Save("unlearn-2", 999, nil, nil))
	return s, &said
}

// load loads into a state of other values.
func load(s *Store) (*Header, []engine.StateTensor, error) {
	to := state(1)
	h, err := s.Load("unlearn", func(*Header) []engine.StateTensor { return to })
	return h, to, err
}

func TestSaveAndLoad(t *testing.T) {
	s, said := store(t)
	entries, err := os.ReadDir(s.Dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		info, err := e.Info()
		require.NoError(t, err)
		assert.Zero(t, info.Mode().Perm()&0o077, "only the owner may read the weights")
	}
	assert.Equal(t, []string{"unlearn-2.000999.ckpt", "unlearn.000136.ckpt", "unlearn.000137.ckpt"}, names, "the last two are kept")

	h, to, err := load(s)
	require.NoError(t, err)
	assert.Equal(t, 137, h.Step)
	assert.JSONEq(t, `{"Note":"x"}`, string(h.Extra))
	assert.Equal(t, bits(state(137)), bits(to))
	assert.Empty(t, *said)
	assert.Equal(t, uint64(4*(pieceLen/4+37)+2*(pieceLen/2+5)+4), Size(to))

	h, err = s.Load("never", nil)
	require.NoError(t, err)
	assert.Nil(t, h)
	h, err = s.Load("unlearn-2", nil)
	require.NoError(t, err)
	assert.Equal(t, 999, h.Step)
	require.NoError(t, s.Remove("unlearn"))
	has, err := s.Has("unlearn")
	require.NoError(t, err)
	assert.False(t, has)
}

func newest(s *Store) string { return filepath.Join(s.Dir, "unlearn.000137.ckpt") }

// A bit that has changed anywhere is found out; the checkpoint before is used, then, and bit for bit what it was.
func TestFlippedBits(t *testing.T) {
	s, said := store(t)
	whole, err := os.ReadFile(newest(s))
	require.NoError(t, err)
	want := bits(state(136))
	rng := rand.New(rand.NewPCG(7, 7))
	var places []int
	for range 200 {
		places = append(places, rng.IntN(len(whole)))
	}
	for i := range 30 { // the first line and the end, which are small
		places = append(places, i, len(whole)-1-40*i)
	}
	if testing.Short() {
		places = places[150:]
	}
	sentence := regexp.MustCompile(`^checkpoint 137 of unlearn is damaged \(.+\): using 136$`)
	tensors := 0
	for _, at := range places {
		data := bytes.Clone(whole)
		data[at] ^= 1 << rng.IntN(8)
		require.NoError(t, os.WriteFile(newest(s), data, 0o600))
		*said = nil
		h, to, err := load(s)
		require.NoError(t, err, "byte %d of %d", at, len(whole))
		require.Equal(t, 136, h.Step, "byte %d of %d", at, len(whole))
		require.True(t, slices.EqualFunc(want, bits(to), slices.Equal))
		require.Len(t, *said, 1)
		require.Regexp(t, sentence, (*said)[0])
		if regexp.MustCompile("sha256 differs in tensor [abc]").MatchString((*said)[0]) {
			tensors++
		}
		require.NoFileExists(t, newest(s), "or the next one would push out the whole one")
	}
	assert.Greater(t, tensors, 30)
}

func TestTruncated(t *testing.T) {
	s, said := store(t)
	whole, err := os.ReadFile(newest(s))
	require.NoError(t, err)
	for i := range 20 {
		n := len(whole) * i / 20
		if i == 19 {
			n = len(whole) - 1
		}
		require.NoError(t, os.WriteFile(newest(s), whole[:n], 0o600))
		*said = nil
		h, to, err := load(s)
		require.NoError(t, err, "%d bytes", n)
		assert.Equal(t, 136, h.Step)
		assert.Equal(t, bits(state(136)), bits(to))
		assert.Len(t, *said, 1)
	}
	require.NoError(t, os.WriteFile(newest(s), append(bytes.Clone(whole), 0), 0o600))
	h, _, err := load(s)
	require.NoError(t, err)
	assert.Equal(t, 136, h.Step, "a byte too many is damage, too")
}

// A length or a number of elements that is larger than the file takes no memory.
func TestLengthsAreChecked(t *testing.T) {
	s, _ := store(t)
	whole, err := os.ReadFile(newest(s))
	require.NoError(t, err)
	sealed := func(header string) []byte {
		line := whole[:lineLen]
		sum := sha256.Sum256(append(bytes.Clone(line), header...))
		out := append(bytes.Clone(line), header...)
		out = binary.LittleEndian.AppendUint64(out, uint64(len(header)))
		return append(out, sum[:]...)
	}
	for name, data := range map[string][]byte{
		"elements": sealed(`{"tensors":[{"name":"a","type":"F32","len":4611686018427387904}]}`),
		"negative": sealed(`{"tensors":[{"name":"a","type":"F32","len":-1}]}`),
		"type":     sealed(`{"tensors":[{"name":"a","type":"F64","len":0}]}`),
		"json":     sealed(`{"tensors":[`),
	} {
		require.NoError(t, os.WriteFile(newest(s), data, 0o600))
		h, _, err := load(s)
		require.NoError(t, err, name)
		assert.Equal(t, 136, h.Step, name)
	}
}

func TestNothingUsable(t *testing.T) {
	s, _ := store(t)
	for _, step := range []string{"136", "137"} {
		path := filepath.Join(s.Dir, "unlearn.000"+step+".ckpt")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		data[1000] ^= 1
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
	_, _, err := load(s)
	require.ErrorIs(t, err, ErrNone)
	assert.EqualError(t, err, "no usable checkpoint of unlearn: 137 is damaged (sha256 differs in tensor a)")
	_, _, err = load(s)
	require.ErrorIs(t, err, ErrNone, "it stays so: damaged files are not forgotten")
}

// Before the first checkpoint of a work there is its beginning.
func TestTheOnlyOneIsDamaged(t *testing.T) {
	s, said := store(t)
	require.NoError(t, os.Remove(filepath.Join(s.Dir, "unlearn.000136.ckpt")))
	require.NoError(t, os.Truncate(newest(s), 5))
	h, _, err := load(s)
	require.NoError(t, err)
	assert.Nil(t, h)
	assert.Equal(t, []string{"checkpoint 137 of unlearn is damaged (5 bytes are no checkpoint): using the state before it"}, *said)
}

// What is whole and not of this run is refused, not passed over.
func TestAnotherRun(t *testing.T) {
	for what, change := range map[string]func(*Origin){
		"another model": func(o *Origin) { o.Model = "n" },
		"other data":    func(o *Origin) { o.Data = "n" },
		"other options": func(o *Origin) { o.Config = "n" },
	} {
		s, said := store(t)
		change(&s.Origin)
		_, _, err := load(s)
		require.ErrorIs(t, err, ErrOrigin)
		assert.ErrorContains(t, err, "unlearn.000137.ckpt: checkpoint belongs to "+what+" (sha256 ")
		assert.Empty(t, *said)
	}
	s, _ := store(t)
	_, err := s.Load("unlearn", func(*Header) []engine.StateTensor { return state(1)[:2] })
	assert.ErrorContains(t, err, "has 3 tensors, want 2: it is of another training")
	_, err = s.Load("unlearn", func(*Header) []engine.StateTensor {
		to := state(1)
		slices.Reverse(to)
		return to
	})
	assert.ErrorContains(t, err, "it is of another training")
}

func TestAnotherFormat(t *testing.T) {
	s, _ := store(t)
	line := []byte("guardcpu checkpoint 3\n")
	sum := sha256.Sum256(append(bytes.Clone(line), "later"...))
	data := append(line, "laterlater"...)
	data = binary.LittleEndian.AppendUint64(data, 5)
	require.NoError(t, os.WriteFile(newest(s), append(data, sum[:]...), 0o600))
	_, _, err := load(s)
	require.ErrorIs(t, err, ErrFormat)
	assert.ErrorContains(t, err, "checkpoint format 3, this binary reads 1")
}

// FuzzRead: whatever the bytes, reading ends with a header or an error.
func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "x")
	small := []engine.StateTensor{{Name: "a", F32: []float32{1, 2}}, {Name: "b", BF16: []byte{1, 2}}}
	require.NoError(f, write(path, &Header{Name: "x"}, small))
	data, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(data)
	f.Add(data[:len(data)-1])
	f.Add([]byte("guardcpu checkpoint 2\n"))
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
		file, h, err := openFile(path)
		if err != nil {
			return
		}
		defer file.Close()
		_ = readTensors(file, h, small)
	})
}
