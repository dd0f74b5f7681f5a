// Package tokenizer turns text into token ids and back, with the vocabulary that
// a GGUF file carries in its tokenizer.ggml.* keys.
//
// Three kinds are known, and all follow llama.cpp (src/llama-vocab.cpp, v0.5.0),
// whose ids they reproduce:
//
//   - "llama", SentencePiece BPE: adjacent symbols are merged by the score of the
//     token they make; what has no token falls back to byte tokens or <unk>.
//   - "gpt2", byte-level BPE: a pre-tokenizer cuts the text into words, and the
//     bytes of each word are merged by the rank of the pair in a list.
//   - "gemma4", BPE of characters: the same on the characters of a line, blanks as ▁;
//     what has no token falls back to byte tokens.
//
// Every name of tokenizer.ggml.pre is known that llama.cpp knows, but "whitespace"; a
// test holds their ids to llama.cpp's.
//
// Text is data: a control token's text in it is encoded like any other text,
// unless EncodeOptions.ParseSpecial asks for the token. User-defined tokens are
// always found, since the model was trained that way.
//
// Where this package departs from llama.cpp:
//
//   - A wrong file is an error rather than a warning or an abort: see FromGGUF. Of several
//     tokens for one role (see roles) the first of a list counts; there any may.
//   - Without byte tokens a character outside the vocabulary is <unk>, where
//     llama.cpp throws. A character is <unk> as a whole if one of its bytes lacks
//     a token.
//   - A byte that is not valid UTF-8 is a character of its own, neither letter nor
//     number nor space, and is kept. llama.cpp trusts the leading byte in
//     SentencePiece, and makes U+FFFD of such bytes in byte-level BPE.
//   - Control, unknown and byte tokens never come of merging, as in SentencePiece;
//     llama.cpp takes any token of that text.
//   - Decode of byte-level BPE gives the bytes as they are. llama.cpp's
//     llama_detokenize also removes blanks before punctuation (clean_spaces).
//   - What a text costs is proportional to its length, but for a logarithm: llama.cpp
//     copies the text of every pair it looks at, and its expressions recurse.
//   - A GPT-2 file without bos or eos key gets <|endoftext|> if there is such a
//     token and else none; llama.cpp takes token 11.
package tokenizer
