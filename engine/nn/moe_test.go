package nn

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/internal/ref"
)

func newMoE(d int, cfg MoEConfig, rank int) *MoE {
	rng := newRand(31)
	matrix := func(name string, rows, cols int) *Param {
		p := newParam(rng, name, rows, cols)
		if rank > 0 {
			p.Adapter = newAdapter(rng, p, rank)
		}
		return p
	}
	m := &MoE{Router: matrix("router", cfg.NExperts, d)}
	for e := range cfg.NExperts {
		m.Gate = append(m.Gate, matrix(fmt.Sprintf("gate[%d]", e), cfg.DExpert, d))
		m.Up = append(m.Up, matrix(fmt.Sprintf("up[%d]", e), cfg.DExpert, d))
		m.Down = append(m.Down, matrix(fmt.Sprintf("down[%d]", e), d, cfg.DExpert))
	}
	return m
}

func refMoE[N ref.Number](m *MoE, cfg MoEConfig, vals map[*Param][]N) *ref.MoE[N] {
	mat := func(p *Param) ref.Mat[N] {
		w := ref.Reshape(vals[p], p.Cols)
		if a := p.Adapter; a != nil {
			w = ref.Adapted(w, ref.Reshape(vals[a.A], a.A.Cols), ref.Reshape(vals[a.B], a.B.Cols), float64(a.Scale))
		}
		return w
	}
	r := &ref.MoE[N]{Router: mat(m.Router), NUsed: cfg.NUsed, Scale: float64(cfg.Scale)}
	for e := range m.Up {
		r.Gate, r.Up, r.Down = append(r.Gate, mat(m.Gate[e])), append(r.Up, mat(m.Up[e])), append(r.Down, mat(m.Down[e]))
	}
	return r
}

// selectSink checks that factors come with the rows they are of.
type selectSink struct {
	adapterSink
	rows []int32
}

func (s *selectSink) SelectRows(rows []int32) { s.rows = rows }

func (s *selectSink) Linear(p *Param, dy, x Mat) {
	if s.rows != nil {
		assert.Len(s.t, s.rows, x.Rows, p.Name)
		assert.IsIncreasing(s.t, s.rows, p.Name)
	}
	s.adapterSink.Linear(p, dy, x)
}

func TestMoE(t *testing.T) {
	const d, rows = 6, 9
	for name, cfg := range map[string]MoEConfig{
		"mixtral":       {NExperts: 4, NUsed: 2, DExpert: 5, Scale: 1},
		"of many":       {NExperts: 16, NUsed: 3, DExpert: 4, Scale: 1.5},
		"all":           {NExperts: 3, NUsed: 3, DExpert: 3, Scale: 1},
		"with adapters": {NExperts: 4, NUsed: 2, DExpert: 5, Scale: 1},
	} {
		t.Run(name, func(t *testing.T) {
			rank := 0
			if name == "with adapters" {
				rank = 2
			}
			m := newMoE(d, cfg, rank)
			var params []*Param
			for _, p := range m.Params() {
				params = append(params, p)
				if p.Adapter != nil {
					params = append(params, p.Adapter.A, p.Adapter.B)
				}
			}
			for _, rows := range []int{rows, 1} {
				rng := newRand(uint64(rows))
				n, dy, y0 := randMat(rng, rows, d), randMat(rng, rows, d), randMat(rng, rows, d)
				at := [][]float64{f64Mat(n)}
				vals := map[*Param][]float64{}
				for _, p := range params {
					vals[p] = f64(p.F32)
					at = append(at, vals[p])
				}
				want := refMoE(m, cfg, vals).Of(refMat(n)).Flat()
				grads := ref.Gradient(func(xs [][]complex128) complex128 {
					vals := map[*Param][]complex128{}
					for i, p := range params {
						vals[p] = xs[i+1]
					}
					return dot(refMoE(m, cfg, vals).Of(ref.Reshape(xs[0], d)), f64Mat(dy))
				}, at...)
				eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
					var st moeState
					m.forward(c, &cfg, &st, n)
					y := clone(y0)
					m.output(c, &st, y)
					near(t, "y", plus(f64Mat(y0), want), flat(y))

					dn := randMat(newRand(3), rows, d)
					s := &selectSink{adapterSink: adapterSink{newFormSink(t), c}}
					m.backward(c, &cfg, &st, dn, dy, n, s)
					near(t, "dn", grads[0], flat(dn))
					out := [][]float32{flat(y), flat(dn)}
					for i, p := range params {
						got := make([]float32, p.Len()) // nothing, where no row came
						if s.grads[p] != nil {
							got = s.of(p)
						}
						near(t, p.Name, grads[i+1], got)
						out = append(out, got)
					}
					alone := randMat(newRand(4), rows, d)
					m.backward(c, &cfg, &st, alone, dy, n, nil)
					near(t, "dn without a sink", grads[0], flat(alone))
					require.Nil(t, s.rows)
					return out
				})
			}
		})
	}
}

// A batch of no rows is computed, and adds nothing.
func TestMoEOfNoRows(t *testing.T) {
	cfg := MoEConfig{NExperts: 4, NUsed: 2, DExpert: 5, Scale: 1}
	m := newMoE(6, cfg, 0)
	eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
		var st moeState
		m.forward(c, &cfg, &st, NewMat(3, 6))
		m.forward(c, &cfg, &st, NewMat(0, 6))
		m.output(c, &st, NewMat(0, 6))
		m.backward(c, &cfg, &st, NewMat(0, 6), NewMat(0, 6), NewMat(0, 6), nil)
		return nil
	})
}
