// Package mutate runs the body of a fuzz target over mutants of its seeds without the instrumentation
// of go test -fuzz, many times as fast, and looks at the time and memory of every execution:
//
//	GUARDCPU_EXECUTIONS=1000000 go test -run '^Fuzz' -timeout 0 ./gguf
//
// Where that variable is not set, Fuzz is f.Fuzz. It imports nothing of this module, so that every
// package can use it.
package mutate

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// Bounds on one execution. Targets work on inputs of a few kilobytes; what asks for more than
// this has believed a number of the input.
const (
	mostBytes = 64 << 20
	mostTime  = 20 * time.Second
	mostInput = 1 << 16 // bytes of a mutant
)

// Fuzz runs body over the seeds that f has, and over what go test -fuzz or GUARDCPU_EXECUTIONS
// makes of them. An input that fails is kept beside the target's corpus, as go test -fuzz keeps it.
func Fuzz(f *testing.F, body func(t testing.TB, data []byte)) {
	f.Helper()
	var seeds [][]byte
	n, err := strconv.ParseUint(os.Getenv("GUARDCPU_EXECUTIONS"), 10, 64)
	more := err == nil && n > 0
	f.Fuzz(func(t *testing.T, data []byte) {
		if more {
			seeds = append(seeds, slices.Clone(data))
		}
		body(t, data)
	})
	if len(seeds) == 0 || f.Failed() {
		return
	}
	hash := fnv.New64a()
	hash.Write([]byte(f.Name()))
	m := &mutator{rng: rand.New(rand.NewPCG(hash.Sum64(), 1)), seeds: seeds}
	start := time.Now()
	d := &driver{f: f, body: body}
	stop := d.watch()
	defer stop()
	for range n {
		d.execute(m.mutant())
	}
	f.Logf("%d executions in %v, the longest %v", n, time.Since(start).Round(time.Second), d.longest.Round(time.Millisecond))
}

// driver executes a body and sees that it stays within bounds.
type driver struct {
	f       *testing.F
	body    func(t testing.TB, data []byte)
	input   atomic.Pointer[[]byte] // of the execution that is under way
	done    atomic.Uint64
	longest time.Duration
}

// execute runs the body once. What ends it, a panic too, leaves the input in a file.
func (d *driver) execute(data []byte) {
	input := slices.Clone(data)
	d.input.Store(&input)
	ended := false
	defer func() {
		if !ended || d.f.Failed() {
			d.f.Logf("the input is kept in %s", d.keep(input))
		}
	}()
	start, before := time.Now(), allocated()
	d.body(d.f, data)
	if took := time.Since(start); took > d.longest {
		d.longest = took
	}
	if bytes := allocated() - before; bytes > mostBytes {
		d.f.Fatalf("%d bytes of input made it allocate %d bytes", len(input), bytes)
	}
	ended = true
	d.done.Add(1)
}

// allocated returns the bytes that the program has allocated so far.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// watch ends the program when one execution takes too long, which nothing else would.
func (d *driver) watch() (stop func()) {
	quit := make(chan struct{})
	go func() {
		last := uint64(0)
		for {
			select {
			case <-quit:
				return
			case <-time.After(mostTime):
			}
			if n := d.done.Load(); n != last {
				last = n
				continue
			}
			if input := d.input.Load(); input != nil {
				panic(fmt.Sprintf("%s takes longer than %v; the input is kept in %s", d.f.Name(), mostTime, d.keep(*input)))
			}
		}
	}()
	return func() { close(quit) }
}

// keep writes an input where go test finds it as a seed.
func (d *driver) keep(input []byte) string {
	dir := filepath.Join("testdata", "fuzz", d.f.Name())
	path := filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256(input))[:16])
	text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", input)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		return fmt.Sprintf("%v: %q", err, input)
	}
	return path
}

// mutator makes inputs that are nearly right.
type mutator struct {
	rng   *rand.Rand
	seeds [][]byte
}

func (m *mutator) seed() []byte { return m.seeds[m.rng.IntN(len(m.seeds))] }

// mutant returns a seed with one change or some more.
func (m *mutator) mutant() []byte {
	b := slices.Clone(m.seed())
	for {
		b = mutations[m.rng.IntN(len(mutations))](m, b)
		if len(b) > mostInput {
			b = b[:mostInput]
		}
		if m.rng.IntN(2) == 0 {
			return b
		}
	}
}

// mutations are the ways to change an input. Those of numbers come twice: lengths, counts, types and
// offsets are what a reader must not believe.
var mutations = []func(m *mutator, b []byte) []byte{
	(*mutator).number, (*mutator).number, (*mutator).flip, (*mutator).cut, (*mutator).repeat, (*mutator).remove, (*mutator).splice, (*mutator).token,
}

// span returns a random part of n bytes.
func (m *mutator) span(n int) (from, to int) {
	from = m.rng.IntN(n + 1)
	return from, from + m.rng.IntN(min(n-from, 1<<m.rng.IntN(12))+1)
}

func (m *mutator) flip(b []byte) []byte {
	if len(b) > 0 {
		b[m.rng.IntN(len(b))] ^= 1 << m.rng.IntN(8)
	}
	return b
}

func (m *mutator) cut(b []byte) []byte { return b[:m.rng.IntN(len(b)+1)] }

func (m *mutator) repeat(b []byte) []byte {
	from, to := m.span(len(b))
	return slices.Insert(b, to, slices.Repeat(b[from:to], 1+m.rng.IntN(3))...)
}

func (m *mutator) remove(b []byte) []byte {
	from, to := m.span(len(b))
	return slices.Delete(b, from, to)
}

// splice puts a part of a seed in place of a part.
func (m *mutator) splice(b []byte) []byte {
	other := m.seed()
	from, to := m.span(len(other))
	at, end := m.span(len(b))
	return slices.Replace(b, at, end, other[from:to]...)
}

// token inserts what the texts read here are made of: JSON, YAML and templates.
func (m *mutator) token(b []byte) []byte {
	return slices.Insert(b, m.rng.IntN(len(b)+1), []byte(tokens[m.rng.IntN(len(tokens))])...)
}

var tokens = []string{
	"{", "}", "[", "]", `"`, ":", ",", "\n", "\\", `\u0000`, `\ud83d`, "\xff", "\x00", "\uFEFF", "null", "true", "NaN", "-1e999", "1e308", "18446744073709551616", "-0.5",
	"- ", ": ", "&a ", "*a", "!!binary ", "| ", "\n---\n", "%YAML", "\t",
	"{{", "}}", "{%", "%}", "{% for x in messages %}", "{% endfor %}", "{% if x %}", "{% endif %}", "{% set x = x + x %}", "|join", "range(9999999)", "*1000000000", "['a']", "~",
}

// number writes over a number, where there is a field of a GGUF file or anywhere.
func (m *mutator) number(b []byte) []byte {
	at, size := 0, 1<<m.rng.IntN(4)
	if fields := ggufFields(b); len(fields) > 0 && m.rng.IntN(4) > 0 {
		f := fields[m.rng.IntN(len(fields))]
		at, size = f.at, f.size
	} else if len(b) >= size {
		at = m.rng.IntN(len(b) - size + 1)
	}
	if len(b) < at+size {
		return b
	}
	var old [8]byte
	copy(old[:], b[at:at+size])
	was := binary.LittleEndian.Uint64(old[:])
	var v uint64
	switch m.rng.IntN(6) {
	case 0:
		v = was + uint64(m.rng.IntN(17)) - 8
	case 1:
		v = uint64(1)<<m.rng.IntN(64) + uint64(m.rng.IntN(5)) - 2
	case 2:
		v = -was
	case 3:
		v = uint64(m.rng.IntN(48)) // types, small counts
	case 4:
		v = uint64(len(b)-at) + uint64(m.rng.IntN(17)) - 8
	default:
		v = was << m.rng.IntN(64)
	}
	var now [8]byte
	binary.LittleEndian.PutUint64(now[:], v)
	copy(b[at:at+size], now[:])
	return b
}
