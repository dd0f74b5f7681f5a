package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/guardcpu/guardcpu/benchmarks/internal/machine"
)

// Child is how a process went.
type Child struct {
	Exit    int
	Seconds float64
	CPU     float64 // seconds of user and system time
	// Foreign is the share of all CPUs that other processes used meanwhile.
	Foreign float64
	// PeakRSS is the largest resident memory in bytes, as wait4 reports it; Anonymous and Mapped
	// are what it was made of when it was largest among the looks that were taken at it.
	PeakRSS, Anonymous, Mapped int64
	Stdout, Stderr             []byte `json:"-"`
}

// look is a process's resident memory at one time.
type look struct{ anonymous, mapped int64 }

// runChild runs a program and looks at its memory 20 times a second. A process that ends with another
// status than 0 is no error.
func runChild(ctx context.Context, args []string) (*Child, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	busy, start := machine.Busy(), time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	largest := make(chan look)
	go func() {
		var most look
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				largest <- most
				return
			case <-tick.C:
				if l := lookAt(cmd.Process.Pid); l.anonymous+l.mapped > most.anonymous+most.mapped {
					most = l
				}
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	most := <-largest
	took := time.Since(start)
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		return nil, err
	}
	state := cmd.ProcessState
	c := &Child{
		Exit: state.ExitCode(), Seconds: took.Seconds(), CPU: (state.UserTime() + state.SystemTime()).Seconds(),
		PeakRSS: peakRSS(state), Anonymous: most.anonymous, Mapped: most.mapped,
		Stdout: stdout.Bytes(), Stderr: stderr.Bytes(),
	}
	if busy > 0 {
		c.Foreign = max(0, (machine.Busy()-busy).Seconds()-c.CPU) / (took.Seconds() * float64(runtime.NumCPU()))
	}
	return c, ctx.Err()
}
