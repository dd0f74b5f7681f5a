// Package hf turns a Hugging Face checkpoint, a directory with config.json, a tokenizer and
// weights in safetensors, into the metadata and tensors of a GGUF file, and back.
//
// Names, keys and what happens to the numbers are those of llama.cpp's convert_hf_to_gguf.py:
// families.go is the table of the architectures. A transformation moves rows, transposes a
// matrix or adds one, and each knows its inverse.
//
// Both directions go tensor by tensor: the source is mapped, and one packed tensor is in
// memory at a time.
package hf
