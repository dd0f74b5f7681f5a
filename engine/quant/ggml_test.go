package quant

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ggml is what ggml.py has written with ggml's own functions: a line is what was done, the
// type, the number of elements, and what the script says.
//
//go:embed testdata/ggml.txt
var ggml string

// generator is the script's: the upper byte of a linear congruential generator.
type generator uint64

func (g *generator) byte() byte {
	*g = *g*6364136223846793005 + 1442695040888963407
	return byte(*g >> 56)
}

// bell returns sums of four bytes, at a scale that changes.
func (g *generator) bell(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		sum := 0
		for range 4 {
			sum += int(g.byte())
		}
		x[i] = float32(math.Ldexp(float64(sum-510), -14-i/32%8))
	}
	return x
}

// digest is the SHA-256 of numbers, NaN as 0x7fc00000.
func digest(x []float32) string {
	h := sha256.New()
	var b [4]byte
	for _, v := range x {
		bits := math.Float32bits(v)
		if v != v {
			bits = 0x7fc00000
		}
		binary.LittleEndian.PutUint32(b[:], bits)
		h.Write(b[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Every set unpacks any bits as ggml does, to the bit; what Pack writes are the bytes of
// ggml's reference quantizer; and what ggml has packed with an importance matrix comes
// back with the error it has in ggml.
func TestTypesAreThoseOfGGML(t *testing.T) {
	seen := map[string]bool{"F32": true}
	for line := range strings.Lines(ggml) {
		f := strings.Fields(line)
		what, name := f[0], f[1]
		n, err := strconv.Atoi(f[2])
		require.NoError(t, err)
		t.Run(what+"/"+name, func(t *testing.T) {
			typ, err := ByName(name)
			if err != nil {
				t.Skip(err)
			}
			random := generator(typ.GGUF)
			switch data := make([]byte, typ.RowBytes(n)); what {
			case "unpack":
				for i := range data {
					data[i] = random.byte()
				}
				simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
					x := make([]float32, n)
					typ.Unpack(k, x, data)
					assert.Equal(t, f[3], digest(x))
				})
				seen[name] = true
			case "pack":
				require.NoError(t, typ.Pack(data, random.bell(n)))
				sum := sha256.Sum256(data)
				assert.Equal(t, f[3], hex.EncodeToString(sum[:]))
			case "bell":
				want, err := strconv.ParseFloat(f[3], 64)
				require.NoError(t, err)
				packed, err := base64.StdEncoding.DecodeString(f[4])
				require.NoError(t, err)
				x := make([]float32, n)
				typ.Unpack(kernels, x, packed)
				assert.InEpsilon(t, want, rootMeanSquare(random.bell(n), x), 1e-8) // printed with 9 digits
			default:
				t.Fatalf("%q is not known", what)
			}
		})
	}
	for _, typ := range Types {
		assert.True(t, seen[typ.Name], "%s is not compared with ggml", typ.Name)
	}
}

// rootMeanSquare is that of the differences of x and y.
func rootMeanSquare(x, y []float32) float64 {
	sum := 0.0
	for i := range x {
		d := float64(x[i]) - float64(y[i])
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(x)))
}
