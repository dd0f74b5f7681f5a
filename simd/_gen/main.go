// Command _gen writes the amd64 assembly of package simd and its Go stubs.
//
//	go run . -dir ..
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

// files lists what is written: NAME_amd64.s and NAME_amd64.go for each.
var files = []struct {
	name  string
	write func(*gen)
}{
	{"gemm", gemm},
	{"gemm512", gemm512},
	{"gemmbf16", gemmBF16},
	{"vector", both(vector)},
	{"rows", both(rows)},
	{"activation", both(activation)},
	{"adamw", both(adamw)},
	{"stochastic", stochastic},
	{"turn", turn},
	{"packed", packed},
	{"blocks", blocks},
	{"grids", grids},
	{"int8", int8s},
	{"int8vnni", int8VNNI},
	{"super", supers},
}

// both writes a program for AVX2 and for AVX-512.
func both(write func(*gen)) func(*gen) {
	return func(g *gen) {
		for _, isa := range []string{"AVX2", "AVX512"} {
			g.isa = isa
			write(g)
		}
	}
}

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "..", "folder of the files written")
	flag.Parse()
	for _, f := range files {
		c := build.NewContext()
		c.ConstraintExpr("amd64,!purego")
		f.write(&gen{Context: c, isa: "AVX2", tables: map[string]operand.Mem{}})
		file, err := c.Result()
		if err == nil {
			err = pass.Concat(pass.Compile, pass.Func(encode)).Execute(file)
		}
		if err != nil {
			log.Fatalf("%s: %v", f.name, err)
		}
		cfg := printer.Config{Name: "simd/_gen", Argv: []string{"go", "generate", "./simd"}, Pkg: "simd"}
		for ext, p := range map[string]printer.Printer{".s": printer.NewGoAsm(cfg), ".go": printer.NewStubs(cfg)} {
			src, err := p.Print(file)
			if err == nil {
				err = os.WriteFile(filepath.Join(*dir, f.name+"_amd64"+ext), src, 0o644)
			}
			if err != nil {
				log.Fatalf("%s: %v", f.name, err)
			}
		}
	}
}
