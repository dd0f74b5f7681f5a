//go:build amd64 && !purego

package simd_test

import (
	"encoding/hex"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/simd"
)

// TestGenerated runs the program in _gen and compares what it writes with the
// files here.
func TestGenerated(t *testing.T) {
	env := append(os.Environ(), "GOPROXY=off", "GOWORK=off", "GOFLAGS=-mod=readonly")
	goCmd := func(args ...string) ([]byte, error) {
		cmd := exec.Command("go", args...)
		cmd.Env = env
		return cmd.CombinedOutput()
	}
	if out, err := goCmd("list", "-C", "_gen", "-deps", "."); err != nil {
		t.Skipf("the modules of simd/_gen are not here (go mod download -C simd/_gen): %v\n%s", err, out)
	}
	dir := t.TempDir()
	out, err := goCmd("run", "-C", "_gen", ".", "-dir", dir)
	require.NoError(t, err, "%s", out)

	written, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	sources, err := filepath.Glob("*_amd64.s")
	require.NoError(t, err)
	require.Len(t, written, 2*len(sources), "a .s and a .go for each")
	for _, path := range written {
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		have, err := os.ReadFile(filepath.Base(path))
		require.NoError(t, err)
		assert.True(t, string(want) == string(have), "%s is not what _gen writes; run go generate ./simd", filepath.Base(path))
	}
}

// tierOf is the set whose functions end in such a suffix.
var tierOf = map[string]string{"AVX2": "avx2", "AVX512": "avx512", "VNNI": "avx512vnni", "BF16": "avx512bf16"}

var suffix = regexp.MustCompile(`(AVX2|AVX512|VNNI|BF16)$`)

// asmFunc is a function in assembly: its name, what it says it requires, its lines.
type asmFunc struct {
	path, name string
	requires   []string
	lines      []string
}

func asmFuncs(t *testing.T) (all []asmFunc) {
	t.Helper()
	sources, err := filepath.Glob("*_amd64.s")
	require.NoError(t, err)
	require.NotEmpty(t, sources)
	text := regexp.MustCompile(`(?m)(?:^// Requires: (.*)\n)?^TEXT ·(\w+)\(SB\)`)
	for _, path := range sources {
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		starts := text.FindAllStringSubmatchIndex(string(src), -1)
		require.Len(t, starts, strings.Count(string(src), "TEXT"), path)
		for i, m := range starts {
			end := len(src)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}
			f := asmFunc{path: path, name: string(src[m[4]:m[5]]), lines: strings.Split(string(src[m[5]:end]), "\n")}
			if m[2] >= 0 {
				f.requires = strings.Split(string(src[m[2]:m[3]]), ", ")
			}
			all = append(all, f)
		}
	}
	return all
}

// TestInstructions: a function in assembly, whose suffix names the set it is for, has
// only instructions that the set's guard in kernels_amd64.go checks for. What every
// amd64 CPU has, and AVX, which AVX2 includes, need no check. The registers Z, K, and X
// and Y from 16 on are AVX-512 whatever the instruction. The mnemonic of an instruction
// written as bytes is in its comment (TestMnemonics), and what it requires in the list.
func TestInstructions(t *testing.T) {
	avx512 := regexp.MustCompile(`\b(Z\d+|K[0-7]|[XY](1[6-9]|2\d|3[01]))\b`)
	for _, f := range asmFuncs(t) {
		tier := tierOf[suffix.FindString(f.name)]
		allowed, ok := simd.Features(tier)
		if !assert.True(t, ok, "%s: the name of %s does not say which set it is for", f.path, f.name) {
			continue
		}
		allowed = append(allowed, "SSE", "SSE2", "MMX+", "AVX") // MMX+: PREFETCHT0
		for _, name := range f.requires {
			assert.Contains(t, allowed, name, "%s: %s", f.path, f.name)
		}
		for _, line := range f.lines {
			code, _, _ := strings.Cut(line, "//")
			if avx512.MatchString(code) {
				assert.Contains(t, allowed, "AVX512F", "%s: %s: %s", f.path, f.name, line)
			}
		}
	}
}

// TestMnemonics decodes the instructions that are written as bytes, for Go's assembler
// does not know them, and compares them with their comments.
func TestMnemonics(t *testing.T) {
	if _, err := exec.LookPath("objdump"); err != nil {
		t.Skip("objdump is not here (package binutils)")
	}
	line := regexp.MustCompile(`^\s*BYTE\s+(\$0x[0-9a-f]{2}(?:; BYTE \$0x[0-9a-f]{2})*) // (.*)$`)
	var code []byte
	var want []string
	for _, f := range asmFuncs(t) {
		for _, l := range f.lines {
			m := line.FindStringSubmatch(l)
			if m == nil {
				assert.NotRegexp(t, `\b(BYTE|WORD|LONG|QUAD)\b`, l, f.name)
				continue
			}
			b, err := hex.DecodeString(strings.NewReplacer("$0x", "", "; BYTE ", "").Replace(m[1]))
			require.NoError(t, err)
			code, want = append(code, b...), append(want, m[2])
		}
	}
	require.NotEmpty(t, want)
	path := filepath.Join(t.TempDir(), "code")
	require.NoError(t, os.WriteFile(path, code, 0o600))
	out, err := exec.Command("objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "--insn-width=16", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^ *[0-9a-f]+:\t[0-9a-f ]+\t(.*?) *$`).FindAllStringSubmatch(string(out), -1) {
		got = append(got, goSyntax(m[1]))
	}
	require.Equal(t, want, got)
}

// goSyntax turns an instruction as objdump prints it, as vdpbf16ps 0x4(%rax,%r9,2){1to16},%zmm1,%zmm2,
// into Go's: VDPBF16PS.BCST 4(AX)(R9*2), Z1, Z2.
func goSyntax(s string) string {
	name, ops, _ := strings.Cut(strings.ToUpper(s), " ")
	if strings.Contains(ops, "{1TO16}") {
		name, ops = name+".BCST", strings.ReplaceAll(ops, "{1TO16}", "")
	}
	if m := regexp.MustCompile(`^ *(?:0X([0-9A-F]+))?\((%\w+)(?:,(%\w+),(\d))?\)(.*)`).FindStringSubmatch(ops); m != nil {
		mem := "(" + m[2] + ")"
		if n, _ := strconv.ParseUint(m[1], 16, 32); n != 0 {
			mem = strconv.FormatUint(n, 10) + mem
		}
		if m[3] != "" {
			mem += "(" + m[3] + "*" + m[4] + ")"
		}
		ops = mem + m[5]
	}
	ops = regexp.MustCompile(`%R([A-Z]+)`).ReplaceAllString(ops, "$1")
	return name + " " + strings.NewReplacer("%ZMM", "Z", "%", "", ",", ", ").Replace(strings.TrimSpace(ops))
}

// TestSetsOwnAssembly: what the functions of a set lead to is assembly of the tiers that
// the set needs, and all assembly is in some set. A name that a declaration of the
// package mentions counts as a way to it.
func TestSetsOwnAssembly(t *testing.T) {
	pkg, err := build.Default.ImportDir(".", 0)
	require.NoError(t, err)
	mentions := map[string][]string{}
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		add := func(name string, n ast.Node) {
			ast.Inspect(n, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					mentions[name] = append(mentions[name], id.Name)
				}
				return true
			})
		}
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					add(d.Name.Name, d)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok {
						for _, n := range v.Names {
							add(n.Name, v)
						}
					}
				}
			}
		}
	}
	used := map[string]bool{}
	for set, tier := range map[string]string{"generic": "", "vek": "", "avx2": "avx2", "avx512": "avx512", "avx512vnni": "avx512vnni", "avx512bf16": "avx512bf16"} {
		require.Contains(t, mentions, set)
		reached, todo := map[string]bool{}, []string{set}
		for len(todo) > 0 {
			name := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if !reached[name] {
				reached[name] = true
				todo = append(todo, mentions[name]...)
			}
		}
		has, _ := simd.Features(tier)
		for _, f := range asmFuncs(t) {
			if !reached[f.name] {
				continue
			}
			used[f.name] = true
			needs, _ := simd.Features(tierOf[suffix.FindString(f.name)])
			assert.Subset(t, has, needs, "set %s leads to %s", set, f.name)
		}
	}
	for _, f := range asmFuncs(t) {
		assert.True(t, used[f.name], "%s: no set has %s", f.path, f.name)
	}
}
