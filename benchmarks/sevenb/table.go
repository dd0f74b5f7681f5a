package main

import (
	"fmt"
	"math"
	"strings"
)

// TOFU's forget10 in Llama 2's tokens, prompt, answer and EOS (token_lengths.json of the reference data): of the
// rows to forget and to retain, and of their answers.
var (
	tofuForget = work{Tokens: 29153, Answers: 17800}
	tofuRetain = work{Tokens: 245287, Answers: 150485}
)

const tofuEpochs = 5 // of unlearning, each with a row to retain for every row to forget

// machines are the numbers of cores that are extrapolated to.
var machines = []int{2, 16, 64}

// efficiency is what each core of many is expected to reach of what a core reaches here.
const efficiency = 0.8

// tables makes markdown of the report.
func (r *Report) tables() string {
	var b strings.Builder
	l := r.Limits
	fmt.Fprintf(&b, "# A 7B-shaped model within a memory budget\n\nMade by `go run ./benchmarks/sevenb run`. %s, %d CPUs; %.0f GFLOP/s in the best product of a block's shapes (float32 weights, 512 rows), "+
		"%.0f by the micro-kernel alone (%s); memory %.1f GB/s, disk %.2f GB/s.\n\n", r.CPU, r.Cores, l.Matmul, l.Peak, l.Kernels, l.Memory, l.Disk)
	b.WriteString("| task | weights | file | budget | peak resident | anonymous + mapped | guardcpu says | spill | samples × tokens | s before | s | tokens/s | GFLOP/s | of matmul | others |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, x := range r.Runs {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | ", x.Task, x.Type, gib(x.Bytes), x.Memory)
		if x.Exit != 0 {
			fmt.Fprintf(&b, "%s | | | | %d × %d | | %.0f | exit %d | | | %.0f %% |\n", gib(x.PeakRSS), x.Forget+x.Retain, x.Length, x.Seconds, x.Exit, 100*x.Foreign)
			continue
		}
		rate := x.GFLOP / x.seconds()
		fmt.Fprintf(&b, "%s | %s + %s | %s | %s | %d × %d | %.0f | %.0f | %.2f | %.0f | %.0f %% | %.0f %% |\n", gib(x.PeakRSS), gib(x.Anonymous), gib(x.Mapped),
			x.reported("peak_memory"), x.reported("spill"), x.Forget+x.Retain, x.Length, x.Seconds-x.seconds(), x.seconds(), float64(x.Work.Tokens)/x.seconds(), rate, 100*rate/l.Matmul, 100*x.Foreign)
	}
	b.WriteString("\nSeconds before the work itself are those of opening the model and looking at every weight once, from a cold or warm cache. Operations are counted for products with weights: " +
		"8·P a token of streamed attribution and of fused training, 6·P of LoRA. Others: the share of the CPUs that other processes used meanwhile.\n")
	b.WriteString(r.extrapolation())
	return b.String()
}

// reported returns a number of bytes that guardcpu reported.
func (x *Run) reported(name string) string {
	n, ok := x.Reported[name].(float64)
	if !ok {
		return ""
	}
	return gib(int64(n))
}

// extrapolation says how long TOFU's forget10 takes.
func (r *Report) extrapolation() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## TOFU forget10\n\nExtrapolated: attribution of %d rows against %d (%d + %d tokens of Llama 2), and %d epochs of unlearning by `gd`. The rate of a run above, times the cores, times %.1f "+
		"on more cores than here; or, where it is more, the time that memory takes at this machine's %.1f GB/s: batches of 512 tokens that read the weights three times, and read and write a gradient.\n\n| task | weights | PFLOP |",
		400, 3600, tofuForget.Tokens, tofuRetain.Tokens, tofuEpochs, efficiency, r.Limits.Memory)
	for _, n := range machines {
		fmt.Fprintf(&b, " %d cores |", n)
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|", len(machines)) + "\n")
	seen := map[string]bool{}
	for _, x := range r.Runs {
		if key := x.Task + x.Type; x.Exit != 0 || seen[key] {
			continue
		} else {
			seen[key] = true
		}
		w := tofuWork(x.Task)
		flops := flops(x.Task, w, llama7B)
		fmt.Fprintf(&b, "| %s | %s | %.1f |", x.Task, x.Type, flops/1e15)
		for _, n := range machines {
			fmt.Fprintf(&b, " %s |", hours(max(computeSeconds(flops, x.GFLOP/x.seconds(), r.Cores, n), memorySeconds(x, w, r.Limits.Memory))))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// llama7B has the weights of the shape 7b.
var llama7B = weights{blocks: 32 * (4*4096*4096 + 3*4096*11008), output: 32000 * 4096}

// tofuWork is what a task has to do for forget10. Unlearning draws a row to retain for every row to forget.
func tofuWork(task string) work {
	if task == "attribute" {
		return work{tofuForget.Tokens + tofuRetain.Tokens, tofuForget.Answers + tofuRetain.Answers}
	}
	pairs := 400.0 / 3600
	return work{tofuEpochs * (tofuForget.Tokens + int(pairs*float64(tofuRetain.Tokens))), tofuEpochs * (tofuForget.Answers + int(pairs*float64(tofuRetain.Answers)))}
}

// computeSeconds is the time on n cores, at the rate that was measured on so many cores.
func computeSeconds(flops, gflops float64, cores, n int) float64 {
	rate := gflops * 1e9 / float64(cores) * float64(n)
	if n > cores {
		rate *= efficiency
	}
	return flops / rate
}

// memorySeconds is the time that memory takes at least: every batch of 512 tokens reads the weights for the
// forward pass, for the second one and for dX, and if they are not frozen reads and writes a
// gradient of 4 bytes each.
func memorySeconds(x *Run, w work, gbs float64) float64 {
	bytes := 3 * float64(x.Bytes)
	if x.Task != "lora" {
		bytes += 8 * (llama7B.blocks + llama7B.output)
	}
	return math.Ceil(float64(w.Tokens)/512) * bytes / (gbs * 1e9)
}

// hours writes a time.
func hours(seconds float64) string {
	switch {
	case seconds < 90:
		return fmt.Sprintf("%.0f s", seconds)
	case seconds < 90*60:
		return fmt.Sprintf("%.0f min", seconds/60)
	}
	return fmt.Sprintf("%.1f h", seconds/3600)
}
