package nn

import (
	"cmp"
	"slices"
)

// MoEConfig is the shape of a mixture of experts. Without experts there is none.
type MoEConfig struct {
	NExperts int     // E
	NUsed    int     // k: the experts that a row goes to
	DExpert  int     // F of an expert
	Scale    float32 // s: the sum of a row's weights
}

// MoE is a feed-forward layer of experts, of which a router chooses k for every row (Shazeer
// et al. 2017, arXiv:1701.06538v1; Jiang et al. 2024, Mixtral, arXiv:2401.04088v1, section 2.1).
// With p = softmax(Router n) over all experts, C the k of largest p, of equal ones the first,
// and S = max(Σ_C p, 2⁻¹⁴), a bound that is llama.cpp's (build_moe_ffn):
//
//	y = Σ_{e∈C} w_e·Down_e(silu(Gate_e n)∘Up_e n),   w_e = s·p_e/S
type MoE struct {
	Router         *Param   // [E, D]
	Gate, Up, Down []*Param // of each expert: [F, D], [F, D], [D, F]
}

// leastSum is the smallest normal binary16 number.
const leastSum = 1.0 / (1 << 14)

// Params returns the parameters in the order of the forward pass; none, without a router.
func (m *MoE) Params() []*Param {
	if m.Router == nil {
		return nil
	}
	return slices.Concat([]*Param{m.Router}, m.Gate, m.Up, m.Down)
}

// moeState is what the forward pass saves. Every row has k copies, one for each of its
// experts; they are sorted by expert, and for one expert by row.
type moeState struct {
	probs         Mat       // p [T,E]
	chosen        []int32   // C of each row [T·k]
	weight        []float32 // w of each choice [T·k]
	copyOf        []int32   // the copy that a choice makes [T·k]
	rows          []int32   // the row that a copy is of [T·k]
	first         []int     // expert e has the copies first[e]…first[e+1] [E+1]
	x             Mat       // the copies' inputs [T·k,D]
	gate, up, act Mat       // inside the experts [T·k,F]
}

// stateBytes is the memory of a moeState for batches of rows rows.
func (cfg *MoEConfig) stateBytes(rows, dModel int) int {
	if cfg.NExperts == 0 {
		return 0
	}
	return 4 * rows * (cfg.NExperts + cfg.NUsed*(4+dModel+3*cfg.DExpert))
}

// of returns the rows of m that are the copies for expert e.
func (st *moeState) of(e int, m Mat) Mat {
	return m.View(st.first[e], st.first[e+1]-st.first[e], 0, m.Cols)
}

// choices calls f for every choice j of every row t, maybe in parallel, but one row's in order;
// i is its index in chosen, weight and copyOf.
func (st *moeState) choices(c *Ctx, cols int, f func(t, i int)) {
	rows := st.probs.Rows
	if rows == 0 {
		return
	}
	k := len(st.chosen) / rows
	c.rows(rows, k*cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			for i := t * k; i < (t+1)*k; i++ {
				f(t, i)
			}
		}
	})
}

// forward routes the rows of n [T,D] and computes what is inside the experts.
func (m *MoE) forward(c *Ctx, cfg *MoEConfig, st *moeState, n Mat) {
	st.probs.resize(n.Rows, cfg.NExperts)
	linear(c, st.probs, n, m.Router, false)
	st.route(c, cfg)
	copies := len(st.rows)
	st.x.resize(copies, n.Cols)
	st.gate.resize(copies, cfg.DExpert)
	st.up.resize(copies, cfg.DExpert)
	st.act.resize(copies, cfg.DExpert)
	st.choices(c, n.Cols, func(t, i int) { copy(st.x.Row(int(st.copyOf[i])), n.Row(t)) })
	ps := make([]projection, 0, 2*cfg.NUsed)
	for e := range cfg.NExperts {
		if st.first[e] == st.first[e+1] {
			continue
		}
		ps = append(ps, projection{y: st.of(e, st.gate), w: m.Gate[e]}, projection{y: st.of(e, st.up), w: m.Up[e]})
		if n.Rows > 1 {
			project(c, st.of(e, st.x), ps...)
			ps = ps[:0]
		}
	}
	if n.Rows == 1 { // all its experts share the input
		project(c, n, ps...)
	}
	SwiGLU(c, st.act, st.gate, st.up)
}

// route turns the router's outputs in st.probs into probabilities, chooses each row's
// experts, and sorts the copies.
func (st *moeState) route(c *Ctx, cfg *MoEConfig) {
	n := st.probs.Rows * cfg.NUsed
	st.chosen, st.copyOf, st.rows = grow(st.chosen, n), grow(st.copyOf, n), grow(st.rows, n)
	st.weight = grow(st.weight, n)
	c.rows(st.probs.Rows, 16*cfg.NExperts, func(lo, hi int) {
		order := make([]int32, cfg.NExperts)
		for t := lo; t < hi; t++ {
			p := st.probs.Row(t)
			c.K.Scale(p, 1/c.K.ExpSub(p, p, c.K.Max(p)))
			for e := range order {
				order[e] = int32(e)
			}
			slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(p[b], p[a]) })
			chosen := st.chosen[t*cfg.NUsed:][:cfg.NUsed]
			copy(chosen, order)
			sum, _ := sumOf(p, chosen)
			for j, e := range chosen {
				st.weight[t*cfg.NUsed+j] = cfg.Scale * p[e] / sum
			}
		}
	})
	st.first = grow(st.first, cfg.NExperts+1)
	clear(st.first)
	for _, e := range st.chosen {
		st.first[e+1]++
	}
	for e := range cfg.NExperts {
		st.first[e+1] += st.first[e]
	}
	next := slices.Clone(st.first)
	for i, e := range st.chosen {
		st.copyOf[i], st.rows[next[e]] = int32(next[e]), int32(i/cfg.NUsed)
		next[e]++
	}
}

// sumOf returns S, and whether it moves with p.
func sumOf(p []float32, chosen []int32) (sum float32, moves bool) {
	for _, e := range chosen {
		sum += p[e]
	}
	return max(sum, leastSum), sum > leastSum
}

// output adds the layer's output to y [T,D].
func (m *MoE) output(c *Ctx, st *moeState, y Mat) {
	out := scratchMat(len(st.rows), y.Cols)
	defer matPool.Put(out)
	for e, p := range m.Down {
		linear(c, st.of(e, *out), st.of(e, st.act), p, false)
	}
	st.choices(c, y.Cols, func(t, i int) { c.K.Axpy(y.Row(t), st.weight[i], out.Row(int(st.copyOf[i]))) })
}

// backward sets dn to the gradient of forward's input n for the gradient dy of the output, and
// hands the factors of the parameters' gradients to the sink. All are [T,D]. With C held fixed,
//
//	u_e = dy·Down_e   dact_e = w_e·u_e   dw_e = ⟨u_e, act_e⟩
//	dp_e = s·(dw_e − Σ_C dw·p/S)/S       for e∈C, 0 for the others; without Σ where S is its bound
//	dz   = p∘(dp − ⟨dp, p⟩)              z = Router n
func (m *MoE) backward(c *Ctx, cfg *MoEConfig, st *moeState, dn, dy, n Mat, s Sink) {
	copies := len(st.rows)
	buf := scratch(copies*(2*dy.Cols+3*cfg.DExpert+1) + n.Rows*cfg.NExperts)
	defer scratchPool.Put(buf)
	rest := *buf
	dout, dx := take(&rest, copies, dy.Cols), take(&rest, copies, dy.Cols)
	dgate, dup, dact := take(&rest, copies, cfg.DExpert), take(&rest, copies, cfg.DExpert), take(&rest, copies, cfg.DExpert)
	dz, dw := take(&rest, n.Rows, cfg.NExperts), rest

	st.choices(c, dy.Cols, func(t, i int) { copy(dout.Row(int(st.copyOf[i])), dy.Row(t)) })
	for e, p := range m.Down {
		linearBackward(c, st.of(e, dact), st.of(e, dout), st.of(e, st.act), p, nil, false) // u
	}
	st.choices(c, dy.Cols, func(_, i int) {
		at := int(st.copyOf[i])
		dw[i] = c.K.Dot(dact.Row(at), st.act.Row(at))
		c.K.Scale(dact.Row(at), st.weight[i])
		c.K.Scale(dout.Row(at), st.weight[i])
	})
	SwiGLUBackward(c, dgate, dup, dact, st.gate, st.up)
	for e := cfg.NExperts - 1; e >= 0; e-- {
		if st.first[e] == st.first[e+1] {
			continue
		}
		SelectRows(s, st.rows[st.first[e]:st.first[e+1]])
		if s != nil {
			s.Linear(m.Down[e], st.of(e, dout), st.of(e, st.act))
		}
		linearBackward(c, st.of(e, dx), st.of(e, dup), st.of(e, st.x), m.Up[e], s, false)
		linearBackward(c, st.of(e, dx), st.of(e, dgate), st.of(e, st.x), m.Gate[e], s, true)
	}
	SelectRows(s, nil)

	c.rows(n.Rows, 4*cfg.NExperts, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			p, d := st.probs.Row(t), dz.Row(t)
			chosen, dw := st.chosen[t*cfg.NUsed:][:cfg.NUsed], dw[t*cfg.NUsed:][:cfg.NUsed]
			sum, moves := sumOf(p, chosen)
			clear(d)
			for j, e := range chosen {
				d[e] = dw[j]
			}
			var mean float32
			if moves {
				mean = c.K.Dot(d, p) / sum
			}
			for _, e := range chosen {
				d[e] = cfg.Scale * (d[e] - mean) / sum
			}
			mean = c.K.Dot(d, p)
			for e := range d {
				d[e] = p[e] * (d[e] - mean)
			}
		}
	})
	linearBackward(c, dn, dz, n, m.Router, s, false)
	st.choices(c, dn.Cols, func(t, i int) { c.K.Add(dn.Row(t), dx.Row(int(st.copyOf[i]))) })
}

// RowSink is a Sink that has to know which rows of the batch the factors belong to.
type RowSink interface {
	// SelectRows says that row i of the factors of the calls from now on is row rows[i] of the
	// batch, or again with nil, row i. The slice is valid until the next SelectRows.
	SelectRows(rows []int32)
}

// SelectRows calls that of s if it has one.
func SelectRows(s Sink, rows []int32) {
	if s, ok := s.(RowSink); ok {
		s.SelectRows(rows)
	}
}
