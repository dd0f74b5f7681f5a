package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// Limits are what the machine can do, measured in the same run.
type Limits struct {
	Kernels string  // the micro-kernel alone, GFLOP/s in float32
	Peak    float64 // of it
	Matmul  float64 // GFLOP/s of the best product of the shapes of a block, float32 weights, 512 rows
	Memory  float64 // GB/s of reading memory
	Disk    float64 // GB/s of reading the model's file where it is in no cache
}

// measureLimits asks guardcpu bench, and reads up to 2 GB of a file.
func measureLimits(ctx context.Context, guardcpu, file string) (l Limits, err error) {
	out, err := exec.CommandContext(ctx, guardcpu, "bench", "--what", "peak,matmul", "--products", "4096x4096,11008x4096,4096x11008", "--tokens", "512",
		"--sets", "best", "--threads", fmt.Sprint(runtime.NumCPU()), "--json").Output()
	if err != nil {
		return l, fmt.Errorf("guardcpu bench: %w", err)
	}
	var report struct {
		Results []struct {
			Name  string
			Keys  map[string]string
			Rates map[string]float64
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return l, fmt.Errorf("guardcpu bench: %w", err)
	}
	for _, r := range report.Results {
		switch {
		case r.Name == "Peak" && r.Keys["of"] == "f32":
			l.Kernels, l.Peak = r.Keys["set"], r.Rates["GFLOP/s"]
		case r.Name == "Peak" && r.Keys["of"] == "memory":
			l.Memory = r.Rates["GB/s"]
		case r.Name == "Matmul":
			l.Matmul = max(l.Matmul, r.Rates["GFLOP/s"])
		}
	}
	if !(l.Peak > 0 && l.Matmul > 0 && l.Memory > 0) {
		return l, fmt.Errorf("guardcpu bench measured no peak, product or memory: %s", out)
	}
	l.Disk, err = diskRate(file)
	return l, err
}

// diskRate returns the GB/s of reading up to 2 GB of a file in order.
func diskRate(path string) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := forget(f); err != nil {
		return 0, err
	}
	buf := make([]byte, 4<<20)
	start, n := time.Now(), 0
	for n < 2e9 {
		k, err := f.Read(buf)
		n += k
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	return float64(n) / 1e9 / time.Since(start).Seconds(), nil
}
