package optim

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/simd"
)

func serial(n int, body func(i int)) {
	for i := range n {
		body(i)
	}
}

// reference is AdamW (decay > 0 or not) and SGD with momentum, in float64.
type reference struct {
	w, m, v float64
}

func (r *reference) adamW(t int, g, lr float64, o Options) {
	r.m = o.Beta1*r.m + (1-o.Beta1)*g
	r.v = o.Beta2*r.v + (1-o.Beta2)*g*g
	mh := r.m / (1 - math.Pow(o.Beta1, float64(t+1)))
	vh := r.v / (1 - math.Pow(o.Beta2, float64(t+1)))
	r.w = r.w*(1-lr*o.Decay) - lr*mh/(math.Sqrt(vh)+o.Eps)
}

func (r *reference) sgd(g, lr float64, o Options) {
	r.m = o.Momentum*r.m + g
	r.w = r.w*(1-lr*o.Decay) - lr*r.m
}

func TestTenStepsMatchFloat64(t *testing.T) {
	o := Options{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Momentum: 0.9, Decay: 0.1}
	for _, name := range []string{"adamw", "sgd"} {
		for _, k := range simd.All() {
			opt, err := New(name, k, o, []Shape{{1, 3}})
			require.NoError(t, err)
			w := []float32{0.5, -1, 2}
			ref := []reference{{w: 0.5}, {w: -1}, {w: 2}}
			for step := range 10 {
				g := make([]float32, 3)
				for i := range g {
					g[i] = float32(math.Sin(float64(3*step + i)))
				}
				opt.Begin(step)
				opt.Step(serial, 0, Float32(w), g, 0.01, 0.5, true)
				for i := range ref {
					if name == "adamw" {
						ref[i].adamW(step, 0.5*float64(g[i]), 0.01, o)
					} else {
						ref[i].sgd(0.5*float64(g[i]), 0.01, o)
					}
					// ten steps of a handful of float32 operations on numbers up to 2
					require.InDelta(t, ref[i].w, float64(w[i]), 4e-6, "%s %s step %d element %d", name, k.Name, step, i)
				}
			}
		}
	}
}

func TestDecayIsLeftOutWhereAsked(t *testing.T) {
	for _, kind := range Optimizers {
		opt := kind.New(simd.Best(), Options{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.5}, []Shape{{1, 1}})
		w := []float32{1}
		opt.Begin(0)
		opt.Step(serial, 0, Float32(w), []float32{0}, 0.1, 1, false)
		assert.Equal(t, float32(1), w[0], kind.Name)
		opt.Step(serial, 0, Float32(w), []float32{0}, 0.1, 1, true)
		assert.InDelta(t, 0.95, w[0], 1e-6, kind.Name)
	}
}

// The toy task of STYLE §4: each optimizer finds the minimum of Σ(w-c)².
func TestLearnsAToyTask(t *testing.T) {
	want := []float32{3, -2, 0.5}
	for _, kind := range Optimizers {
		opt := kind.New(simd.Best(), Options{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, []Shape{{1, 3}})
		w := make([]float32, 3)
		for step := range 300 {
			g := make([]float32, 3)
			for i := range g {
				g[i] = 2 * (w[i] - want[i])
			}
			opt.Begin(step)
			opt.Step(serial, 0, Float32(w), g, 0.05, 1, false)
		}
		assert.InDeltaSlice(t, want, w, 0.02, kind.Name)
	}
}

func TestSchedules(t *testing.T) {
	at := func(name string, step int) float64 {
		s, err := ScheduleByName(name)
		require.NoError(t, err)
		return s.Share(step, 4, 12)
	}
	for _, s := range Schedules {
		assert.Equal(t, 0.0, at(s.Name, 0), s.Name)
		assert.Equal(t, 0.5, at(s.Name, 2), s.Name)
		assert.Equal(t, 1.0, at(s.Name, 4), s.Name)
	}
	assert.Equal(t, 1.0, at("constant", 11))
	assert.Equal(t, 0.5, at("linear", 8))
	assert.Equal(t, 0.125, at("linear", 11))
	assert.Equal(t, 0.0, at("linear", 12))
	assert.InDelta(t, 0.5, at("cosine", 8), 1e-15)
	assert.InDelta(t, 0.0, at("cosine", 12), 1e-15)
	for _, s := range Schedules { // no warmup and a single step must not divide by zero
		assert.Equal(t, 1.0, s.Share(0, 0, 1), s.Name)
	}
	_, err := ScheduleByName("step")
	assert.EqualError(t, err, `optim: schedule "step" is not known; there are constant, linear, cosine`)
}

func TestUnknownOptimizer(t *testing.T) {
	_, err := New("lion", simd.Best(), Options{}, nil)
	assert.EqualError(t, err, `optim: optimizer "lion" is not known; there are adamw, adafactor, sgd`)
}

func TestClipScale(t *testing.T) {
	assert.Equal(t, 1.0, ClipScale(5, 0), "no limit")
	assert.Equal(t, 1.0, ClipScale(1, 2), "under the limit")
	assert.Equal(t, 0.5, ClipScale(4, 2))
}
