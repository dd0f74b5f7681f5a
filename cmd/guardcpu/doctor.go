package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/klauspost/cpuid/v2"
	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/simd"
)

// relevantFeatures are the CPU features kernels use or will use.
var relevantFeatures = []cpuid.FeatureID{
	cpuid.SSE42, cpuid.AVX, cpuid.AVX2, cpuid.FMA3, cpuid.F16C, cpuid.AVXVNNI,
	cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512VL, cpuid.AVX512DQ, cpuid.AVX512VNNI, cpuid.AVX512BF16, cpuid.AMXBF16, cpuid.AMXINT8,
	cpuid.ASIMD, cpuid.ASIMDDP, cpuid.ASIMDHP, cpuid.SVE,
}

// doctorReport is what doctor --json prints.
type doctorReport struct {
	OK     bool      `json:"ok"`
	Build  buildInfo `json:"build"`
	CPU    cpuReport `json:"cpu"`
	Memory struct {
		Total     uint64 `json:"total,omitempty"`     // bytes, 0: not known
		Available uint64 `json:"available,omitempty"` // bytes, 0: not known
		Limit     uint64 `json:"limit,omitempty"`     // of the control group, 0: none
	} `json:"memory"`
	Kernels struct {
		Chosen    string      `json:"chosen"`
		Forced    string      `json:"forced,omitempty"` // GUARDCPU_SIMD
		Compute   string      `json:"compute"`          // what --compute auto is
		Available []setReport `json:"available"`
	} `json:"kernels"`
}

type cpuReport struct {
	Name     string   `json:"name"`
	Cores    int      `json:"physical_cores"`
	Threads  int      `json:"logical_cores"`
	Usable   int      `json:"usable"` // GOMAXPROCS: affinity and control group considered
	L1D      int      `json:"l1d"`
	L2       int      `json:"l2"`
	L3       int      `json:"l3"`
	Features []string `json:"features"`
}

type setReport struct {
	Name     string  `json:"name"`
	OK       bool    `json:"ok"`
	MaxError float64 `json:"max_error"` // against generic, relative to the sum of magnitudes
	Problem  string  `json:"problem,omitempty"`
}

func doctorCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "show CPU, kernels, memory and versions, and check the kernels",
		Description: `Every kernel set this CPU can run computes small products, which must agree with the
portable set. The exit status is 70 if one does not. GUARDCPU_SIMD=NAME forces a set.

Examples:
  guardcpu doctor
  guardcpu doctor --json
  GUARDCPU_SIMD=generic guardcpu doctor`,
		Action: func(_ context.Context, cmd *cli.Command) error {
			r, err := examine()
			if err != nil {
				return err
			}
			if cmd.Bool("json") {
				if err := e.json(r); err != nil {
					return err
				}
			} else {
				r.print(e.stdout)
			}
			if !r.OK {
				return &statusError{status: exitInternal, err: errors.New("a kernel set disagrees with the portable one"), remedy: "set GUARDCPU_SIMD=generic and report this machine"}
			}
			return nil
		},
	}
}

// cpuInfo describes the CPU.
func cpuInfo() cpuReport {
	c := cpuid.CPU
	r := cpuReport{Name: c.BrandName, Cores: c.PhysicalCores, Threads: c.LogicalCores, Usable: runtime.GOMAXPROCS(0),
		L1D: max(0, c.Cache.L1D), L2: max(0, c.Cache.L2), L3: max(0, c.Cache.L3), Features: []string{}}
	for _, f := range relevantFeatures {
		if c.Supports(f) {
			r.Features = append(r.Features, f.String())
		}
	}
	return r
}

func examine() (*doctorReport, error) {
	r := &doctorReport{OK: true, Build: readBuild()}
	r.CPU = cpuInfo()
	root := os.DirFS("/")
	r.Memory.Total, r.Memory.Available = systemMemory(root)
	r.Memory.Limit = memoryLimit(root)
	chosen, err := simd.Select()
	if err != nil {
		return nil, &statusError{status: exitUsage, err: err}
	}
	r.Kernels.Chosen, r.Kernels.Forced = chosen.Name, os.Getenv(simd.EnvName)
	r.Kernels.Compute = nn.ComputeAuto.On(chosen).String()
	sets := simd.All()
	for _, k := range sets {
		s := checkSet(sets[0], k)
		r.OK = r.OK && s.OK
		r.Kernels.Available = append(r.Kernels.Available, s)
	}
	return r, nil
}

// checkSet compares the products of a kernel set with those of the portable one, on
// shapes with tails in every direction, in the three orientations that are used. An
// element may differ by 32 roundings of the sum of its terms' magnitudes. Then come the weight types.
func checkSet(generic, k *simd.Kernels) (s setReport) {
	s = setReport{Name: k.Name, OK: true}
	defer func() {
		if p := recover(); p != nil {
			s.OK, s.Problem = false, oneLine(fmt.Sprint(p))
		}
	}()
	rng := rand.New(rand.NewPCG(1, 1))
	serial := func(n int, body func(int)) {
		for i := range n {
			body(i)
		}
	}
	for _, shape := range [][3]int{{1, 7, 33}, {5, 17, 64}, {19, 35, 127}} {
		m, n, kk := shape[0], shape[1], shape[2]
		a, b := make([]float32, m*kk), make([]float32, n*kk)
		for i := range a {
			a[i] = float32(rng.NormFloat64())
		}
		for i := range b {
			b[i] = float32(rng.NormFloat64())
		}
		for _, o := range []struct{ a, b simd.Operand }{
			{simd.Operand{Data: a, Stride: kk}, simd.Operand{Data: b, Stride: kk, Trans: true}},
			{simd.Operand{Data: a, Stride: kk}, simd.Operand{Data: b, Stride: n}},
			{simd.Operand{Data: a, Stride: m, Trans: true}, simd.Operand{Data: b, Stride: n}},
		} {
			want, got, scale := make([]float32, m*n), make([]float32, m*n), make([]float32, m*n)
			abs := func(x simd.Operand) simd.Operand {
				x.Data = slices.Clone(x.Data)
				for i, v := range x.Data {
					x.Data[i] = float32(math.Abs(float64(v)))
				}
				return x
			}
			generic.Gemm(serial, scale, n, m, n, kk, abs(o.a), abs(o.b), false)
			for _, numbers := range []nn.Compute{nn.ComputeF32, nn.ComputeBF16} {
				product, by := generic.Gemm, k.Gemm
				if numbers == nn.ComputeBF16 {
					product, by = generic.GemmBF16, k.GemmBF16
				}
				product(serial, want, n, m, n, kk, o.a, o.b, false)
				by(serial, got, n, m, n, kk, o.a, o.b, false)
				for i := range want {
					e := math.Abs(float64(got[i])-float64(want[i])) / float64(scale[i])
					s.MaxError = math.Max(s.MaxError, e)
					if !(e <= 32.0/(1<<24)) { // also when it is NaN
						s.OK, s.Problem = false, fmt.Sprintf("%s product %d×%d×%d: element %d is %g, want %g", numbers, m, n, kk, i, got[i], want[i])
					}
				}
			}
		}
	}
	for _, t := range quant.Types {
		if problem := checkType(generic, k, t, rng); problem != "" {
			s.OK, s.Problem = false, problem
		}
	}
	return s
}

// checkType compares what a kernel set does with weights of a type with what the portable one does: unpacking,
// and products with 8-bit activations of one row, few and many. These are defined to the bit.
func checkType(generic, k *simd.Kernels, t *quant.Type, rng *rand.Rand) string {
	if t.Kernels == nil {
		return ""
	}
	plain, fast := t.Kernels(generic), t.Kernels(k)
	const n, cols = 19, 1024
	w := t.Random(rng, n*cols/t.BlockLen)
	differ := func(what string, want, got []float32) string {
		for i := range want {
			if math.Float32bits(want[i]) != math.Float32bits(got[i]) {
				return fmt.Sprintf("%s of %s: element %d is %g, want %g", what, t.Name, i, got[i], want[i])
			}
		}
		return ""
	}
	want, got := make([]float32, n*cols), make([]float32, n*cols)
	plain.Unpack(want, w)
	fast.Unpack(got, w)
	if problem := differ("unpacking", want, got); problem != "" || fast.DotInt8 == nil {
		return problem
	}
	for _, rows := range []int{1, 5, 40} {
		product := func(k *simd.Kernels, p *simd.Packed) []float32 {
			rng := rand.New(rand.NewPCG(2, uint64(rows)))
			x, v, y := new(simd.Int8), make([]float32, cols), make([]float32, rows*n)
			x.Resize(rows, cols)
			for i := range rows {
				for j := range v {
					v[j] = float32(rng.NormFloat64())
				}
				x.SetRow(k, i, v)
			}
			simd.MulInt8(nil, x, []simd.Product{{Y: y, LDY: n, N: n, Packed: p, Bytes: w}})
			return y
		}
		if problem := differ(fmt.Sprintf("8-bit product (rows: %d)", rows), product(generic, plain), product(k, fast)); problem != "" {
			return problem
		}
	}
	return ""
}

func (r *doctorReport) print(w io.Writer) {
	b := r.Build
	fmt.Fprintf(w, "guardcpu   %s, %s %s/%s\n", b.Version, b.Go, b.OS, b.Arch)
	fmt.Fprintf(w, "CPU        %s, %d cores, %d threads, %d usable\n", r.CPU.Name, r.CPU.Cores, r.CPU.Threads, r.CPU.Usable)
	fmt.Fprintf(w, "caches     L1 %s, L2 %s, L3 %s\n", bytesText(uint64(r.CPU.L1D)), bytesText(uint64(r.CPU.L2)), bytesText(uint64(r.CPU.L3)))
	fmt.Fprintf(w, "features   %s\n", strings.Join(r.CPU.Features, " "))
	if r.Memory.Total > 0 {
		fmt.Fprintf(w, "memory     %s, %s available", bytesText(r.Memory.Total), bytesText(r.Memory.Available))
		if r.Memory.Limit > 0 {
			fmt.Fprintf(w, ", limited to %s by the control group", bytesText(r.Memory.Limit))
		}
		fmt.Fprintln(w)
	}
	chosen := r.Kernels.Chosen
	if r.Kernels.Forced != "" {
		chosen += " (forced by " + simd.EnvName + ")"
	}
	fmt.Fprintf(w, "kernels    %s, --compute auto is %s\n", chosen, r.Kernels.Compute)
	for _, s := range r.Kernels.Available {
		if s.OK {
			fmt.Fprintf(w, "  %-10s agrees with generic (largest difference %.1e of the terms)\n", s.Name, s.MaxError)
		} else {
			fmt.Fprintf(w, "  %-10s WRONG: %s\n", s.Name, s.Problem)
		}
	}
	names := make([]string, 0, len(b.Modules))
	for name := range b.Modules {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintln(w, "modules")
	for _, name := range names {
		fmt.Fprintf(w, "  %s %s\n", name, b.Modules[name])
	}
}
