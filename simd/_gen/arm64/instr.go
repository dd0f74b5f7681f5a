package main

// An instr is an instruction on vectors that the assembler of Go 1.26 lacks: its
// word with all registers 0, and how GNU writes it (Arm ARM DDI 0487, C7).
type instr struct {
	word uint32
	text string // of vd, vn, vm
}

// Arithmetic of every arm64.
var (
	fadd   = instr{0x4e20d400, "fadd v%d.4s, v%d.4s, v%d.4s"}
	fsub   = instr{0x4ea0d400, "fsub v%d.4s, v%d.4s, v%d.4s"}
	fmul   = instr{0x6e20dc00, "fmul v%d.4s, v%d.4s, v%d.4s"}
	fdiv   = instr{0x6e20fc00, "fdiv v%d.4s, v%d.4s, v%d.4s"}
	fmax   = instr{0x4e20f400, "fmax v%d.4s, v%d.4s, v%d.4s"} // NaN if one is
	faddp  = instr{0x6e20d400, "faddp v%d.4s, v%d.4s, v%d.4s"}
	fcmeq  = instr{0x4e20e400, "fcmeq v%d.4s, v%d.4s, v%d.4s"}
	fcmgt  = instr{0x6ea0e400, "fcmgt v%d.4s, v%d.4s, v%d.4s"}
	bic    = instr{0x4e601c00, "bic v%d.16b, v%d.16b, v%d.16b"}
	frintn = instr{0x4e218800, "frintn v%d.4s, v%d.4s"} // to nearest, even
	fcvtzs = instr{0x4ea1b800, "fcvtzs v%d.4s, v%d.4s"}
	fneg   = instr{0x6ea0f800, "fneg v%d.4s, v%d.4s"}
	fabs   = instr{0x4ea0f800, "fabs v%d.4s, v%d.4s"}
	fsqrt  = instr{0x6ea1f800, "fsqrt v%d.4s, v%d.4s"}
	fmaxv  = instr{0x6e30f800, "fmaxv s%d, v%d.4s"}

	scvtf  = instr{0x4e21d800, "scvtf v%d.4s, v%d.4s"}
	fcvtns = instr{0x4e21a800, "fcvtns v%d.4s, v%d.4s"} // to nearest, even
	fcvtl  = instr{0x0e217800, "fcvtl v%d.4s, v%d.4h"}
	fcvtl2 = instr{0x4e217800, "fcvtl2 v%d.4s, v%d.8h"}

	mul    = instr{0x4ea09c00, "mul v%d.4s, v%d.4s, v%d.4s"}
	umax   = instr{0x6ea06400, "umax v%d.4s, v%d.4s, v%d.4s"}
	umaxv  = instr{0x6eb0a800, "umaxv s%d, v%d.4s"}
	sxtlB  = instr{0x0f08a400, "sxtl v%d.8h, v%d.8b"}
	sxtl2B = instr{0x4f08a400, "sxtl2 v%d.8h, v%d.16b"}
	sxtlH  = instr{0x0f10a400, "sxtl v%d.4s, v%d.4h"}
	sxtl2H = instr{0x4f10a400, "sxtl2 v%d.4s, v%d.8h"}
	xtnS   = instr{0x0e612800, "xtn v%d.4h, v%d.4s"}
	xtn2S  = instr{0x4e612800, "xtn2 v%d.8h, v%d.4s"}
	xtnH   = instr{0x0e212800, "xtn v%d.8b, v%d.8h"}
	xtn2H  = instr{0x4e212800, "xtn2 v%d.16b, v%d.8h"}
	smull  = instr{0x0e20c000, "smull v%d.8h, v%d.8b, v%d.8b"}
	smlal2 = instr{0x4e208000, "smlal2 v%d.8h, v%d.16b, v%d.16b"}
	saddlp = instr{0x4e602800, "saddlp v%d.4s, v%d.8h"}
	sadalp = instr{0x4e606800, "sadalp v%d.4s, v%d.8h"}
)

// Those with an element of vm, a number or four bytes.
var (
	fmlaElement = instr{0x4f801000, "fmla v%d.4s, v%d.4s, v%d.s[%d]"}
	fmulElement = instr{0x4f809000, "fmul v%d.4s, v%d.4s, v%d.s[%d]"}
	sdotElement = instr{0x4f80e000, "sdot v%d.4s, v%d.16b, v%d.4b[%d]"} // DotProd
)

// element returns the bits that choose the 32-bit lane i of vm.
func element(i int) uint32 { return uint32(i&1)<<21 | uint32(i>>1)<<11 }

// sshr31 spreads the sign.
var sshr31 = instr{0x4f210400, "sshr v%d.4s, v%d.4s, #31"}

// Of CPUs with BF16. A vector for bfmmla has four numbers of one row and four of the
// next: vd, a 2×2 matrix, += vn·vmᵀ.
var (
	bfcvtn  = instr{0x0ea16800, "bfcvtn v%d.4h, v%d.4s"}  // sets the upper half to 0
	bfcvtn2 = instr{0x4ea16800, "bfcvtn2 v%d.8h, v%d.4s"} // sets the upper half
	bfmmla  = instr{0x6e40ec00, "bfmmla v%d.4s, v%d.8h, v%d.8h"}
)

// Of CPUs with DotProd: each lane of vd += four products of bytes.
var sdot = instr{0x4e809400, "sdot v%d.4s, v%d.16b, v%d.16b"}

// Of CPUs with I8MM: vd, a 2×2 matrix, += vn·vmᵀ, both two rows of eight bytes.
var smmla = instr{0x4e80a400, "smmla v%d.4s, v%d.16b, v%d.16b"}
