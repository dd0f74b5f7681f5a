# The daily commands. Everything works with Go alone, too: see CONTRIBUTING.md.

.PHONY: build test check race arm64 fuzz bench bench-peers llamacpp support generate demo clean

build: ## the binary, static
	CGO_ENABLED=0 go build -trimpath -o guardcpu ./cmd/guardcpu

test: ## all tests
	go test ./...

check: ## what should pass before a commit
	.ci/run format vet staticcheck test

race: ## the race detector on the concurrent parts (needs a C compiler)
	.ci/run race

arm64: ## kernels, layers and files on arm64 under qemu-user
	.ci/run arm64

fuzz: ## every fuzz target for FUZZ_TIME (10s) each
	.ci/run fuzz

bench: ## every benchmark, ten times, for benchstat
	go test -run '^$$' -bench . -count 10 ./...

bench-peers: ## oneDNN, OpenBLAS, PyTorch and llama.cpp beside guardcpu, and the tables of README.md (benchmarks/README.md)
	go run ./benchmarks/peers $(PEERS)
	go run ./benchmarks/peers -readme

llamacpp: ## logits of every architecture and weight type against llama.cpp, whose libraries are in LLAMA_LIB (benchmarks/llamacpp)
	go run ./benchmarks/llamacpp -llama-lib $(LLAMA_LIB)

support: ## the tables of README.md that say what is supported
	go run ./benchmarks/support

generate: ## the assembly, from simd/_gen
	go generate ./simd

demo: ## the embedded model and its data, from nothing (some minutes)
	go run ./cmd/makedemo

clean:
	rm -f guardcpu
