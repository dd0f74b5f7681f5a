package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gen is an avo file with what all our functions need.
type gen struct {
	*build.Context
	labels int
	consts map[uint32]operand.Mem
	masks  *operand.Mem
	shifts *operand.Mem
}

// rodata marks constants.
const rodata = attr.RODATA | attr.NOPTR

// fn begins a function. Its body ends with end.
func (g *gen) fn(name, signature, doc string) {
	g.Function(name)
	g.Attributes(attr.NOSPLIT)
	g.Pragma("noescape")
	g.Doc(name + " " + doc)
	g.SignatureExpr(signature)
}

// end leaves the function; without VZEROUPPER the SSE code after it would be slow.
func (g *gen) end() {
	g.VZEROUPPER()
	g.RET()
}

// arg loads a parameter that fits a 64-bit register.
func (g *gen) arg(name string) reg.GPVirtual {
	r := g.GP64()
	g.Load(g.Param(name), r)
	return r
}

// stride loads a parameter that counts numbers, in bytes.
func (g *gen) stride(name string) reg.GPVirtual {
	r := g.arg(name)
	g.SHLQ(operand.U8(2), r)
	return r
}

// label returns a name that is not used yet.
func (g *gen) label(name string) string {
	g.labels++
	return fmt.Sprintf("%s%d", name, g.labels)
}

func ref(l string) operand.Op { return operand.LabelRef(l) }

// bits returns 8 copies of a word in memory.
func (g *gen) bits(w uint32) operand.Mem {
	if m, ok := g.consts[w]; ok {
		return m
	}
	m := g.StaticGlobal(fmt.Sprintf("c%08x", w))
	g.DataAttributes(rodata)
	for i := range 8 {
		g.AddDatum(4*i, operand.U32(w))
	}
	if g.consts == nil {
		g.consts = map[uint32]operand.Mem{}
	}
	g.consts[w] = m
	return m
}

// f32 returns 8 copies of a number in memory.
func (g *gen) f32(v float64) operand.Mem { return g.bits(math.Float32bits(float32(v))) }

// zero returns a cleared vector.
func (g *gen) zero() reg.VecVirtual {
	y := g.YMM()
	g.VXORPS(y, y, y)
	return y
}

// mask returns a vector whose first n lanes, 0 ≤ n ≤ 8, are all ones and whose others are 0.
func (g *gen) mask(n reg.GPVirtual) reg.VecVirtual {
	if g.masks == nil {
		m := g.StaticGlobal("masks")
		g.DataAttributes(rodata)
		for i := range 16 {
			w := uint32(0)
			if i < 8 {
				w = 0xffffffff
			}
			g.AddDatum(4*i, operand.U32(w))
		}
		g.masks = &m
	}
	p, y := g.GP64(), g.YMM()
	g.LEAQ(*g.masks, p)
	g.NEGQ(n)
	g.VMOVDQU(operand.Mem{Base: p, Index: n, Scale: 4, Disp: 32}, y)
	g.NEGQ(n)
	return y
}

// lanes is where a step of a loop over slices works: 8 numbers, or the masked ones.
type lanes struct {
	g    *gen
	unit int // which of the unrolled copies this is
	off  int // in bytes
	mask reg.VecVirtual
}

func (l lanes) masked() bool { return l.mask != nil }

// at returns the operand in memory; not for masked lanes.
func (l lanes) at(p reg.Register) operand.Mem { return operand.Mem{Base: p, Disp: l.off} }

// load returns the numbers at p; masked lanes are 0.
func (l lanes) load(p reg.Register) reg.VecVirtual {
	y := l.g.YMM()
	if l.masked() {
		l.g.VMASKMOVPS(l.at(p), l.mask, y)
	} else {
		l.g.VMOVUPS(l.at(p), y)
	}
	return y
}

// store writes y to p, without the masked lanes.
func (l lanes) store(y reg.VecVirtual, p reg.Register) {
	if l.masked() {
		l.g.VMASKMOVPS(y, l.mask, l.at(p))
	} else {
		l.g.VMOVUPS(y, l.at(p))
	}
}

// loop runs body over n numbers: unroll steps of 8 at a time, then one, then the
// rest under a mask. It moves the pointers and destroys n.
func (g *gen) loop(n reg.GPVirtual, unroll int, ptrs []reg.GPVirtual, body func(l lanes)) {
	done := g.label("done")
	for u := unroll; ; u = 1 {
		top, next := g.label("loop"), g.label("next")
		g.Label(top)
		g.CMPQ(n, operand.I32(8*u))
		g.JL(ref(next))
		for i := range u {
			body(lanes{g: g, unit: i, off: 32 * i})
		}
		for _, p := range ptrs {
			g.ADDQ(operand.I32(32*u), p)
		}
		g.SUBQ(operand.I32(8*u), n)
		g.JMP(ref(top))
		g.Label(next)
		if u == 1 {
			break
		}
	}
	g.TESTQ(n, n)
	g.JZ(ref(done))
	body(lanes{g: g, mask: g.mask(n)})
	g.Label(done)
}

// args loads pointers.
func (g *gen) args(names ...string) []reg.GPVirtual {
	var ps []reg.GPVirtual
	for _, n := range names {
		ps = append(ps, g.arg(n))
	}
	return ps
}

// broadcast loads a float32 parameter into all lanes.
func (g *gen) broadcast(name string) reg.VecVirtual {
	a, err := g.Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	y := g.YMM()
	g.VBROADCASTSS(a.Addr, y)
	return y
}

// sumTree adds accs pairwise into accs[0].
func (g *gen) sumTree(accs []reg.VecVirtual) reg.VecVirtual {
	for n := len(accs) / 2; n > 0; n /= 2 {
		for i := range n {
			g.VADDPS(accs[i+n], accs[i], accs[i])
		}
	}
	return accs[0]
}

// sumLanes returns the sum of y's lanes: ((0+1)+(2+3)) + ((4+5)+(6+7)).
func (g *gen) sumLanes(y reg.VecVirtual) reg.VecVirtual {
	g.VHADDPS(y, y, y)
	g.VHADDPS(y, y, y)
	x := g.XMM()
	g.VEXTRACTF128(operand.U8(1), y, x)
	g.VADDSS(x, y.AsX(), x)
	return x
}
