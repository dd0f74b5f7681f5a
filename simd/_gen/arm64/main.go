// Command arm64 writes the arm64 assembly of package simd and its Go stubs.
//
//	go run ./arm64 -dir ..
//
// avo, which writes the amd64 assembly, has no arm64, and the assembler of Go 1.26
// lacks most vector arithmetic. So gen.go prints what the assembler knows in its
// syntax, and the rest as words from the table in instr.go, each with its mnemonic
// beside it; simd/internal/asmcheck decodes them with another disassembler.
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"
)

// files lists what is written: NAME_arm64.s and NAME_arm64.go for each.
var files = []struct {
	name  string
	write func(*gen)
}{
	{"gemm", gemm},
	{"bf16", bf16},
	{"vector", vector},
	{"rows", rows},
	{"activation", activation},
	{"adamw", adamw},
	{"packed", packed},
	{"int8", int8Products},
}

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "..", "folder of the files written")
	flag.Parse()
	for _, f := range files {
		g := newGen()
		f.write(g)
		for ext, src := range map[string][]byte{".s": g.assembly(), ".go": g.stubs()} {
			if err := os.WriteFile(filepath.Join(*dir, f.name+"_arm64"+ext), src, 0o644); err != nil {
				log.Fatal(err)
			}
		}
	}
}
