# The daily commands. Everything works with Go alone, too: see CONTRIBUTING.md.

.PHONY: build test check race arm64 fuzz executions faults bench bench-peers llamacpp support generate demo clean

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

fuzz: ## every fuzz target for FUZZ_TIME (60s) each
	.ci/run fuzz

executions: ## 50 million executions of the fuzz targets over mutants, without instrumentation (half an hour or more)
	.ci/executions

faults: ## kills and failing system calls at every point of a run (strace, python3; the tools are reference data)
	.ci/run faults

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
