// Package hf turns a Hugging Face checkpoint, a directory with config.json, a tokenizer and
// weights in safetensors, into the metadata and tensors of a GGUF file, and back.
//
// Names, keys and what happens to the numbers are those of llama.cpp's convert_hf_to_gguf.py:
// families.go is the table of the architectures. A transformation moves rows, transposes a
// matrix or adds one, and each knows its inverse.
//
// Two things a GGUF file has no place for are passed over, as there: the exact GELU, for which the
// engine computes the tanh form (it moves the logits of the models of testdata, of size 4, by up to 1.4e-3), and
// windows of other families than gemma2 and gemma3 (mistral, qwen2, phi3, starcoder2), which texts that
// fit into one do not show. What else an architecture decides must be what config.json says (settled.go).
//
// Both directions go tensor by tensor: the source is mapped, and one packed tensor is in
// memory at a time.
package hf
