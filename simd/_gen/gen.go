package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"
)

// gen is an avo file with what all our functions need. A program that names its
// functions with isa and has vectors by vec, constants by bits and masks by loop is
// written for AVX2 and for AVX-512, where a vector has 16 numbers, a constant is in a
// register, and a mask in one of K1 to K7.
type gen struct {
	*build.Context
	isa    string // AVX2 or AVX512
	labels int
	tables map[string]operand.Mem
	loaded map[uint32]reg.VecVirtual // constants that the function has in registers
}

func (g *gen) wide() bool { return g.isa == "AVX512" }

// size returns the bytes of a vector.
func (g *gen) size() int {
	if g.wide() {
		return 64
	}
	return 32
}

// vec returns a new vector.
func (g *gen) vec() reg.VecVirtual {
	if g.wide() {
		return g.ZMM()
	}
	return g.YMM()
}

// rodata marks constants.
const rodata = attr.RODATA | attr.NOPTR

// fn begins a function. Its body ends with end.
func (g *gen) fn(name, signature, doc string) {
	g.loaded = map[uint32]reg.VecVirtual{}
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

// table returns n constants in memory.
func (g *gen) table(name string, n int, value func(i int) operand.Constant) operand.Mem {
	m, ok := g.tables[name]
	if !ok {
		m = g.StaticGlobal(name)
		g.DataAttributes(rodata)
		for i := range n {
			g.AddDatum(i*value(i).Bytes(), value(i))
		}
		g.tables[name] = m
	}
	return m
}

// word returns 8 copies of a word in memory.
func (g *gen) word(w uint32) operand.Mem {
	return g.table(fmt.Sprintf("c%08x", w), 8, func(int) operand.Constant { return operand.U32(w) })
}

// bits returns a vector of copies of a word: in memory, or with AVX-512 in a register
// that is loaded where the function begins.
func (g *gen) bits(w uint32) operand.Op {
	m := g.word(w)
	if !g.wide() {
		return m
	}
	z, ok := g.loaded[w]
	if !ok {
		z = g.ZMM()
		g.loaded[w] = z
		load, err := x86.VBROADCASTSS(m, z)
		if err != nil {
			panic(err)
		}
		file, _ := g.Result()
		fns := file.Functions()
		fn := fns[len(fns)-1]
		fn.Nodes = append([]ir.Node{load}, fn.Nodes...)
	}
	return z
}

// f32 is bits of a number.
func (g *gen) f32(v float64) operand.Op { return g.bits(math.Float32bits(float32(v))) }

// zero returns a cleared vector.
func (g *gen) zero() reg.VecVirtual {
	y := g.vec()
	g.VXORPS(y, y, y)
	return y
}

// mask returns a mask of the first n lanes, 0 ≤ n ≤ 8 (AVX-512: 16): a vector in which
// they are all ones and the others 0, or a K register.
func (g *gen) mask(n reg.GPVirtual) reg.Virtual {
	p := g.GP64()
	if g.wide() {
		g.LEAQ(g.table("opmasks", 17, func(i int) operand.Constant { return operand.U16(1<<i - 1) }), p)
		k := g.K()
		g.KMOVW(operand.Mem{Base: p, Index: n, Scale: 2}, k)
		return k
	}
	g.LEAQ(g.table("masks", 16, func(i int) operand.Constant {
		if i < 8 {
			return operand.U32(0xffffffff)
		}
		return operand.U32(0)
	}), p)
	g.NEGQ(n)
	y := g.YMM()
	g.VMOVDQU(operand.Mem{Base: p, Index: n, Scale: 4, Disp: 32}, y)
	g.NEGQ(n)
	return y
}

// lanes is where a step of a loop over slices works: a vector of numbers, or the
// masked ones.
type lanes struct {
	g    *gen
	unit int // which of the unrolled copies this is
	off  int // in bytes
	mask reg.Virtual
}

func (l lanes) masked() bool { return l.mask != nil }

// at returns the operand in memory; not for masked lanes.
func (l lanes) at(p reg.Register) operand.Mem { return operand.Mem{Base: p, Disp: l.off} }

// load returns the numbers at p; masked lanes are 0.
func (l lanes) load(p reg.Register) reg.VecVirtual { return l.loadMem(l.at(p)) }

func (l lanes) loadMem(m operand.Mem) reg.VecVirtual {
	y := l.g.vec()
	switch {
	case !l.masked():
		l.g.VMOVUPS(m, y)
	case l.g.wide():
		l.g.VMOVUPS_Z(m, l.mask, y)
	default:
		l.g.VMASKMOVPS(m, l.mask, y)
	}
	return y
}

// store writes y to p, without the masked lanes.
func (l lanes) store(y reg.VecVirtual, p reg.Register) {
	switch {
	case !l.masked():
		l.g.VMOVUPS(y, l.at(p))
	case l.g.wide():
		l.g.VMOVUPS(y, l.mask, l.at(p))
	default:
		l.g.VMASKMOVPS(y, l.mask, l.at(p))
	}
}

// fill replaces the lanes of y that are masked by those of v.
func (l lanes) fill(v operand.Op, y reg.VecVirtual) {
	if l.g.wide() {
		l.g.VBLENDMPS(y, v, l.mask, y)
		return
	}
	t := l.g.YMM()
	l.g.VMOVUPS(v, t)
	l.g.VBLENDVPS(l.mask, y, t, y)
}

// where replaces the lanes of y in which a and b compare as c (the operand of VCMPPS)
// says, a c b, by those of v, or by 0 if v is nil.
func (g *gen) where(c operand.U8, a, b, v operand.Op, y reg.VecVirtual) {
	if g.wide() {
		if v == nil {
			v = g.zero()
		}
		k := g.K()
		g.VCMPPS(c, b, a, k)
		g.VBLENDMPS(v, y, k, y)
		return
	}
	t := g.YMM()
	g.VCMPPS(c, b, a, t)
	if v == nil {
		g.VANDNPS(y, t, y)
	} else {
		g.VBLENDVPS(t, v, y, y)
	}
}

// loop runs body over n numbers: unroll vectors at a time, then one, then the rest
// under a mask. It moves the pointers and destroys n.
func (g *gen) loop(n reg.GPVirtual, unroll int, ptrs []reg.GPVirtual, body func(l lanes)) {
	done, size := g.label("done"), g.size()
	for u := unroll; ; u = 1 {
		top, next := g.label("loop"), g.label("next")
		g.Label(top)
		g.CMPQ(n, operand.I32(size/4*u))
		g.JL(ref(next))
		for i := range u {
			body(lanes{g: g, unit: i, off: size * i})
		}
		for _, p := range ptrs {
			g.ADDQ(operand.I32(size*u), p)
		}
		g.SUBQ(operand.I32(size/4*u), n)
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
	y := g.vec()
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

// fold returns the 8 lanes of y, or with AVX-512 its halves combined by op.
func (g *gen) fold(y reg.VecVirtual, op func(ops ...operand.Op)) reg.VecVirtual {
	if !g.wide() {
		return y
	}
	h := g.YMM()
	g.VEXTRACTF64X4(operand.U8(1), y, h)
	op(h, y.AsY(), h)
	return h
}

// sumLanes returns the sum of y's lanes, folded: ((0+1)+(2+3)) + ((4+5)+(6+7)).
func (g *gen) sumLanes(y reg.VecVirtual) reg.VecVirtual {
	y = g.fold(y, g.VADDPS)
	g.VHADDPS(y, y, y)
	g.VHADDPS(y, y, y)
	x := g.XMM()
	g.VEXTRACTF128(operand.U8(1), y, x)
	g.VADDSS(x, y.AsX(), x)
	return x
}
