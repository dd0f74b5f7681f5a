package main

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func gemmBF16(g *gen) {
	g.isa = "AVX512"
	for rows := 1; rows <= tileRows; rows++ {
		tile(g, "BF16", rows, func(a operand.Mem, b, sums [2]reg.VecVirtual) {
			g.VDPBF16PS_BCST(a, b[0], sums[0])
			g.VDPBF16PS_BCST(a, b[1], sums[1])
		})
	}
	seal(g)
	sealRow(g)
}

// seal takes two rows of a panel at a time, of 32 columns, and interleaves them.
func seal(g *gen) {
	g.fn("sealBF16", "func(dst, src *float32, pairs int)", "is Tile.Seal for panels 32 wide, 2·pairs steps and pairs ≥ 1.")
	dst, src, pairs := g.arg("dst"), g.arg("src"), g.arg("pairs")
	order := g.ZMM()
	g.VMOVDQU16(g.table("interleave", 32, func(i int) operand.Constant { return operand.U16(i/2 + i%2*16) }), order)
	top := g.label("pair")
	g.Label(top)
	for j := range 2 {
		even, odd := g.ZMM(), g.ZMM()
		g.VMOVUPS(operand.Mem{Base: src, Disp: 64 * j}, even)
		g.VMOVUPS(operand.Mem{Base: src, Disp: 128 + 64*j}, odd)
		g.VCVTNE2PS2BF16(even, odd, odd)
		g.VPERMW(odd, order, odd)
		g.VMOVUPS(odd, operand.Mem{Base: dst, Disp: 64 * j})
	}
	g.ADDQ(operand.I32(256), src)
	g.ADDQ(operand.I32(128), dst)
	g.DECQ(pairs)
	g.JNZ(ref(top))
	g.end()
}

// sealRow takes 32 numbers at a time.
func sealRow(g *gen) {
	g.fn("sealRowBF16", "func(dst, src *float32, n int)", "is Tile.SealRow; n is a multiple of 32, at least 32.")
	dst, src, n := g.arg("dst"), g.arg("src"), g.arg("n")
	top := g.label("some")
	g.Label(top)
	lo, hi := g.ZMM(), g.ZMM()
	g.VMOVUPS(operand.Mem{Base: src}, lo)
	g.VMOVUPS(operand.Mem{Base: src, Disp: 64}, hi)
	g.VCVTNE2PS2BF16(lo, hi, hi)
	g.VMOVUPS(hi, operand.Mem{Base: dst})
	g.ADDQ(operand.I32(128), src)
	g.ADDQ(operand.I32(64), dst)
	g.SUBQ(operand.I32(32), n)
	g.JNZ(ref(top))
	g.end()
}

// Neither avo nor Go's assembler knows the instructions of AVX512_BF16. Here they are
// instructions like others until registers are assigned; then encode makes bytes of them.
// The last operand is written, as in Go's assembly.

// VDPBF16PS_BCST adds to each float32 of sum the products of two pairs of bfloat16, one
// pair of a number at a and one of b: that of the upper halves first, then that of the
// lower ones, each sum rounded to nearest; subnormal numbers are 0 before and after (Intel
// SDM, vol. 2).
func (g *gen) VDPBF16PS_BCST(a, b, sum operand.Op) {
	ops := []operand.Op{a, b, sum}
	g.bf16Instruction("VDPBF16PS.BCST", ops, ops)
}

// VCVTNE2PS2BF16 rounds the 16 numbers of lo and the 16 of hi to bfloat16, to nearest,
// ties to even, subnormal numbers to 0.
func (g *gen) VCVTNE2PS2BF16(lo, hi, dst operand.Op) {
	g.bf16Instruction("VCVTNE2PS2BF16", []operand.Op{lo, hi}, []operand.Op{lo, hi, dst})
}

func (g *gen) bf16Instruction(opcode string, inputs, ops []operand.Op) {
	g.Instruction(&ir.Instruction{Opcode: opcode, Operands: ops, Inputs: inputs, Outputs: ops[2:], ISA: []string{"AVX512BF16"}})
}

// bytes is an operand that is printed as it is.
type bytes string

func (b bytes) Asm() string { return string(b) }

// encode replaces the instructions above by their bytes: EVEX.512.pp.0F38.W0 opcode /r
// (Intel SDM, vol. 2, §2.7) with three registers, or the first a word in memory that is
// broadcast.
func encode(f *ir.File) error {
	codes := map[string]struct{ pp, opcode int }{"VDPBF16PS.BCST": {2, 0x52}, "VCVTNE2PS2BF16": {3, 0x72}}
	for _, fn := range f.Functions() {
		for _, i := range fn.Instructions() {
			code, ok := codes[i.Opcode]
			if !ok {
				continue
			}
			v, r := index(i.Operands[1]), index(i.Operands[2])
			var x, b, bcst int // further bits of what /r has for the first operand
			var tail []int     // of the instruction, from that byte on
			switch op := i.Operands[0].(type) {
			case operand.Mem:
				bcst, b = 1, index(op.Base)
				mod, rm, disp := 0, b&7, op.Disp/4
				if disp != 0 || rm == 5 {
					mod = 1
				}
				if op.Disp%4 != 0 || disp < 0 || disp > 127 {
					return fmt.Errorf("%s: no short displacement", op.Asm())
				}
				if op.Index != nil || rm == 4 {
					sib := 4<<3 | rm // no index
					if op.Index != nil {
						x = index(op.Index)
						sib = bits.TrailingZeros8(op.Scale)<<6 | x&7<<3 | rm
					}
					rm, tail = 4, []int{sib}
				}
				if mod == 1 {
					tail = append(tail, disp)
				}
				tail = append([]int{mod<<6 | r&7<<3 | rm}, tail...)
			default:
				rm := index(op)
				x, b = rm>>1, rm
				tail = []int{3<<6 | r&7<<3 | rm&7}
			}
			not := func(n, bit int) int { return ^n >> bit & 1 }
			all := append([]int{
				0x62,
				not(r, 3)<<7 | not(x, 3)<<6 | not(b, 3)<<5 | not(r, 4)<<4 | 2,
				(^v&15)<<3 | 4 | code.pp,
				2<<5 | bcst<<4 | not(v, 4)<<3,
				code.opcode,
			}, tail...)
			var text []string
			for _, n := range all {
				text = append(text, fmt.Sprintf("$0x%02x", n))
			}
			ops := fmt.Sprintf("%s, %s, %s", i.Operands[0].Asm(), i.Operands[1].Asm(), i.Operands[2].Asm())
			i.Operands = []operand.Op{bytes(strings.Join(text, "; BYTE ") + " // " + i.Opcode + " " + ops)}
			i.Opcode = "BYTE"
		}
	}
	return nil
}

// index returns the number of an assigned register.
func index(op operand.Op) int { return int(op.(reg.Physical).PhysicalIndex()) }
