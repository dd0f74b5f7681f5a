// Package simd has the inner loops of the engine: on slices of float32, on rows of
// matrices, and the blocked matrix product. A Kernels value is one complete set of
// them for one CPU tier:
//
//	generic  portable Go; the meaning of the others
//	vek      generic, with Dot, Sum, Add, Mul, Scale and DotRows by github.com/viterin/vek;
//	         listed where vek has assembly (amd64 with AVX2 and FMA, not on macOS)
//	avx2     assembly for amd64 with AVX2, FMA and F16C, written by the program in _gen
//	avx512   assembly for amd64 with AVX-512 (F, BW, DQ and VL); functions of elements and
//	         blocked matrix products have the bits of avx2
//	avx512vnni, avx512bf16
//	         avx512 where there is VNNI; and BF16 too, with products of bfloat16 by VDPBF16PS
//	neon     assembly for every arm64, written by the program in _gen/arm64
//	neondot  neon, with SDOT for products of bytes: CPUs with DotProd
//	neonbf16 neondot, with BFMMLA and SMMLA for matrix products of bfloat16 and of bytes:
//	         CPUs with BF16 and I8MM
//
// All lists the sets this CPU can run, best last. Select takes the best one, or
// the one named by GUARDCPU_SIMD. The build tag purego leaves only generic.
//
// # What every set keeps
//
//   - The same input gives the same bits: wherever the slices lie, however often it
//     is called, on however many goroutines. Two sets may differ in the last bits.
//   - An element of Axpy, Add, Mul, Scale, AxpyRows, ExpSub (not its sum), SwiGLU, GELU,
//     their backward functions and AdamW depends on nothing but its own inputs: it
//     has the same bits if the slices are cut differently. AxpyRows adds row after
//     row. A row of DotRows does not depend on the rows beside it.
//   - Slices must not overlap, except as the function's comment says. A slice that is
//     too short panics; nothing outside a slice is read or written.
//   - NaN goes in, NaN comes out, Max included.
//   - No call stays in assembly for more than some tens of microseconds, because
//     there it cannot be preempted.
//
// # What may differ between sets
//
// Sums may be split into several partial sums and the products in them fused
// (Dot, Sum, DotRows, the sum of ExpSub); each set has its own fixed order, a
// function of the length alone. avx2 and neon fuse multiplications and additions in
// the same order: both give the same bits, but for those of a NaN. generic and vek
// round each product, so that generic gives the same bits on every architecture. An
// error bound that holds for all: |error| ≤ (n+1)·2⁻²⁴·Σ|xᵢyᵢ|.
//
// # exp
//
// ExpSub, SwiGLU and GELU use one polynomial, the one of Cephes, in all sets
// (exp.go). Over all float32 numbers its error is at most 0.990 ulp
// in generic and 1.011 ulp in avx2, avx512 and neon, found by trying each of them. Results
// smaller than the smallest normal number, 2⁻¹²⁶, are 0; results too large are
// +Inf; exp(-Inf) is 0, and NaN gives NaN.
//
// # Matrix products
//
// Gemm cuts a product as BLIS does (Van Zee & van de Geijn 2015,
// doi:10.1145/2764454), so that the micro-kernel, Tile.Run, reads memory in order:
// columns of B are packed in panels, rows of A copied, where they lie apart as
// suits the caches. The larger factor, mostly a weight, is copied by the task that
// multiplies it, just before; the smaller one is packed first, for all. c = a·bᵀ with
// more columns than rows is computed as its transpose, so that the rows of the weight
// are copied, not transposed. A factor that must be unpacked is unpacked into the
// same places.
//
// Every sum takes 256 products at a time in registers and adds these sums to c, block
// after block; neither the workers, nor the number of rows and columns, nor the kind
// of operand changes that order.
//
// GemmBF16 is the same product of numbers rounded to bfloat16, by Kernels.TileBF16. Its
// panels are packed as float32, a part at a time, and sealed: rounded, and where the CPU
// multiplies bfloat16, stored as pairs. Elsewhere they stay float32, so that the
// product costs what Gemm costs and has the accuracy of bfloat16.
//
// # Packed weights
//
// A type of packed weights is a field of [Weights], a [Packed]: how it is unpacked, and
// its products with few rows and with many. A type needs no product of its own: a few of
// its rows are unpacked and multiplied as numbers (MulFew), or unpacked into the panels of Gemm. Blocks of small integers are multiplied
// with activations rounded to 8 bits ([Int8]); the integer sums are exact and the order of
// the float32 ones is fixed, so that these products have the same bits in every
// set, which the float32 ones have not.
//
// # Sources
//
// K. Goto, R. van de Geijn, Anatomy of high-performance matrix multiplication, ACM
// TOMS 34(3), 2008. F. Van Zee, R. van de Geijn, BLIS: a framework for rapidly
// instantiating BLAS functionality, ACM TOMS 41(3), 2015. W. Cody, W. Waite,
// Software manual for the elementary functions, 1980. S. Moshier, Cephes
// mathematical library, expf.c, 1992. N. Higham, Accuracy and stability of
// numerical algorithms, 2nd ed., 2002.
package simd
