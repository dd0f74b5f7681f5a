package asmcheck

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"go/ast"
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
)

const simd = "../.."

// goCommand runs the go command, for this machine unless env says otherwise.
func goCommand(env []string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(append(os.Environ(), "GOOS=", "GOARCH=", "GOWORK=off", "CGO_ENABLED=0"), env...)
	return cmd.CombinedOutput()
}

// sources returns the arm64 assembly.
func sources(t *testing.T) []string {
	paths, err := filepath.Glob(filepath.Join(simd, "*_arm64.s"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	return paths
}

// TestGenerated runs the program in _gen/arm64 and compares what it writes with the
// files of package simd.
func TestGenerated(t *testing.T) {
	offline := []string{"GOPROXY=off", "GOFLAGS=-mod=readonly"}
	gen := filepath.Join(simd, "_gen")
	if out, err := goCommand(offline, "list", "-C", gen, "-deps", "./arm64"); err != nil {
		t.Skipf("the modules of simd/_gen are not here (go mod download -C simd/_gen): %v\n%s", err, out)
	}
	dir := t.TempDir()
	out, err := goCommand(offline, "run", "-C", gen, "./arm64", "-dir", dir)
	require.NoError(t, err, "%s", out)
	written, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, written, 2*len(sources(t)), "a .s and a .go for each")
	for _, path := range written {
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		have, err := os.ReadFile(filepath.Join(simd, filepath.Base(path)))
		require.NoError(t, err)
		assert.True(t, string(want) == string(have), "%s is not what _gen/arm64 writes; run go generate ./simd", filepath.Base(path))
	}
}

// disassemble returns the text of each instruction, "fadd v0.4s, v1.4s, v2.4s".
func disassemble(t *testing.T, words []uint32) []string {
	t.Helper()
	objdump := ""
	for _, name := range []string{"aarch64-linux-gnu-objdump", "gobjdump"} {
		if path, err := exec.LookPath(name); err == nil {
			objdump = path
			break
		}
	}
	if objdump == "" {
		t.Skip("aarch64-linux-gnu-objdump is not here (apt install binutils-aarch64-linux-gnu)")
	}
	code := make([]byte, 0, 4*len(words))
	for _, w := range words {
		code = binary.LittleEndian.AppendUint32(code, w)
	}
	path := filepath.Join(t.TempDir(), "code")
	require.NoError(t, os.WriteFile(path, code, 0o600))
	out, err := exec.Command(objdump, "-D", "-z", "-b", "binary", "-m", "aarch64", path).Output()
	require.NoError(t, err)
	var texts []string
	line := regexp.MustCompile(`^\s*[0-9a-f]+:\t([0-9a-f]{8}) \t(.*)$`)
	for l := range strings.SplitSeq(string(out), "\n") {
		if m := line.FindStringSubmatch(l); m != nil {
			w, err := strconv.ParseUint(m[1], 16, 32)
			require.NoError(t, err)
			require.Equal(t, words[len(texts)], uint32(w))
			text, _, _ := strings.Cut(m[2], "//")
			texts = append(texts, strings.Join(strings.Fields(text), " "))
		}
	}
	require.Len(t, texts, len(words))
	return texts
}

// TestMnemonics decodes every instruction that is given as a number.
func TestMnemonics(t *testing.T) {
	form := regexp.MustCompile(`^\tWORD    \$0x([0-9a-f]{8}) // (.+)$`)
	var words []uint32
	var where, want []string
	for _, path := range sources(t) {
		f, err := os.Open(path)
		require.NoError(t, err)
		s := bufio.NewScanner(f)
		for n := 1; s.Scan(); n++ {
			if strings.Contains(s.Text(), "BYTE") || !strings.Contains(s.Text(), "WORD") {
				require.NotContains(t, s.Text(), "BYTE")
				continue
			}
			m := form.FindStringSubmatch(s.Text())
			require.NotNil(t, m, "%s:%d: %s", path, n, s.Text())
			w, err := strconv.ParseUint(m[1], 16, 32)
			require.NoError(t, err)
			words, where, want = append(words, uint32(w)), append(where, path+":"+strconv.Itoa(n)), append(want, m[2])
		}
		require.NoError(t, s.Err())
		require.NoError(t, f.Close())
	}
	for i, have := range disassemble(t, words) {
		assert.Equal(t, want[i], have, where[i])
	}
}

// The tiers of arm64, by how the names of functions in assembly end, and what each
// has beyond the ones before it. A function may be used by its own tier and later ones.
var tiers = []struct {
	suffix, file string // the beginning of the names of its files
	instructions string
}{
	{"NEON", "kernels_neon_", `add sub subs cmp cmn lsl lsr and orr eor neg mul madd mov movk movz movn cbz cbnz tbz tbnz tst csel
		b b.lt b.ge b.gt b.le b.ne b.eq b.hi b.ls b.cc b.cs ret nop prfm udf
		ldr str ldur stur ldp stp ldrb ldrh ldrsb ldrsh strb strh ld1 st1 ld1r ld2 ld4 st2 st4
		fmov dup ins umov movi mvni orr eor and bic bsl bit bif not mvn ext tbl tbx
		zip1 zip2 uzp1 uzp2 trn1 trn2 rev16 rev32 rev64 xtn xtn2 sqxtn sqxtn2 shl sshr ushr sshll sshll2 ushll ushll2
		sxtl sxtl2 uxtl uxtl2 sli sri usra ssra shrn shrn2 rshrn smull smull2 smlal smlal2 umull umull2 sadalp uadalp saddlp addp addv
		smax smin umax umin smaxv umaxv abs cmeq cmgt cmge cmhi cmhs cmtst
		fadd fsub fmul fdiv fmla fmls fmax fmin fmaxnm fminnm faddp fmaxp fmaxv fmaxnmv fabs fneg fsqrt fmadd fmsub fnmul
		fcmeq fcmgt fcmge frintn fcvtzs fcvtns fcvtas scvtf ucvtf fcvtl fcvtl2 fcvtn fcvtn2`},
	{"NEONDot", "kernels_neondot_", `sdot udot`},
	{"NEONBF16", "kernels_neonbf16_", `bfdot bfmmla bfcvtn bfcvtn2 smmla usmmla ummla usdot`},
}

// halves matches arithmetic on float16 lanes, which needs ARMv8.2's FP16.
var halves = regexp.MustCompile(`^(fadd|fsub|fmul|fdiv|fmla|fmls|fmax\w*|fmin\w*|faddp|fabs|fneg|fsqrt|fcm\w+|frint\w|fcvt[zna]s|[su]cvtf) v\d+\.[48]h`)

// TestInstructions looks at every instruction of the assembly as it is linked.
func TestInstructions(t *testing.T) {
	binaryPath := filepath.Join(t.TempDir(), "simd.test")
	out, err := goCommand([]string{"GOOS=linux", "GOARCH=arm64"}, "test", "-c", "-o", binaryPath, simd)
	require.NoError(t, err, "%s", out)
	file, err := elf.Open(binaryPath)
	require.NoError(t, err)
	defer file.Close()
	symbols, err := file.Symbols()
	require.NoError(t, err)

	functions := map[string]bool{}
	name := regexp.MustCompile(`(?m)^TEXT ·(\w+)\(SB\)`)
	for _, path := range sources(t) {
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range name.FindAllStringSubmatch(string(src), -1) {
			functions[m[1]] = false
		}
	}
	require.NotEmpty(t, functions)
	var words []uint32
	var owner []string
	for _, s := range symbols {
		fn, ok := strings.CutPrefix(s.Name, "github.com/guardcpu/guardcpu/simd.")
		fn, assembly := strings.CutSuffix(fn, ".abi0")
		if _, known := functions[fn]; !ok || !assembly || !known {
			continue
		}
		functions[fn] = true
		section := file.Sections[s.Section]
		code := make([]byte, s.Size)
		_, err := section.ReadAt(code, int64(s.Value-section.Addr))
		require.NoError(t, err)
		for ; len(code) >= 4; code = code[4:] {
			words, owner = append(words, binary.LittleEndian.Uint32(code)), append(owner, fn)
		}
	}
	for fn, found := range functions {
		assert.True(t, found, "%s is in no kernel set", fn)
	}
	for i, text := range disassemble(t, words) {
		mnemonic, _, _ := strings.Cut(text, " ")
		assert.True(t, allowed(tierOf(owner[i]), mnemonic), "%s has %s", owner[i], text)
		assert.False(t, halves.MatchString(text), "%s has %s", owner[i], text)
	}
}

// tierOf returns the number of the tier that a function in assembly belongs to, or -1.
func tierOf(function string) int {
	best := -1
	for i, tier := range tiers {
		if strings.HasSuffix(function, tier.suffix) && (best < 0 || len(tier.suffix) > len(tiers[best].suffix)) {
			best = i
		}
	}
	return best
}

func allowed(tier int, mnemonic string) bool {
	for _, t := range tiers[:tier+1] {
		for m := range strings.FieldsSeq(t.instructions) {
			if m == mnemonic {
				return true
			}
		}
	}
	return false
}

// TestTiers: only the file of a tier, and those of later ones, mention its functions.
func TestTiers(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(simd, "*.go"))
	require.NoError(t, err)
	declared := map[string]bool{}
	for _, path := range sources(t) {
		stubs, err := parser.ParseFile(token.NewFileSet(), strings.TrimSuffix(path, ".s")+".go", nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range stubs.Decls {
			name := d.(*ast.FuncDecl).Name.Name
			require.GreaterOrEqual(t, tierOf(name), 0, "the name of %s says no tier", name)
			declared[name] = true
		}
	}
	for _, path := range files {
		if _, err := os.Stat(strings.TrimSuffix(path, ".go") + ".s"); err == nil {
			continue // stubs
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok || !declared[id.Name] {
				return true
			}
			of := -1
			for i, tier := range tiers {
				if strings.HasPrefix(filepath.Base(path), tier.file) {
					of = i
				}
			}
			assert.GreaterOrEqual(t, of, tierOf(id.Name), "%s mentions %s", path, id.Name)
			return true
		})
	}
}
