// Package nn is the mathematics of the layers, forwards and backwards, on
// row-major float32. Generation and training call the same functions.
//
// # Notation
//
//	T  rows of a packed batch (tokens)      t, i  a row
//	D  model width          DModel          d     a column
//	H  query heads          NHeads
//	K  key/value heads      NKVHeads        G = H/K query heads share one
//	E  head width           DHead
//	F  feed-forward width   DFF
//	V  vocabulary           nVocab
//	R  rank of an adapter
//	dy the gradient of the loss with respect to y; y's shape
//
// # Conventions
//
// A batch is packed: the rows of several sequences lie one after another, and
// [Segment] says where each begins. Only [Attention] looks across rows, and only
// inside a segment.
//
// Arguments come as outputs, upstream gradient, inputs, saved values. A backward
// adds to the gradients it is given (the caller clears them) unless its comment
// says that it sets them. Gradients of parameters are never formed here: a [Sink]
// is handed their factors, per row (see DESIGN.md, section 3). A nil Sink wants
// none; a nil [Param] is absent and its step is skipped where the comment says so.
//
// Work is divided among workers by output rows, or by (segment, head). Sums are
// never divided, so the number of workers changes no bit of any result.
//
// Shapes that disagree are a mistake of the caller and panic.
package nn
