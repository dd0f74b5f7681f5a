package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
)

// A run of km that is stopped goes on with what it remembers of the model before, whole or damaged, to the
// bytes of the undisturbed run, in every form; the file is gone when the run is complete.
func TestRunGoesOnWithItsReference(t *testing.T) {
	workshop(t)
	for i, form := range []string{"hidden", "hidden16", "topk:4"} {
		t.Run(form, func(t *testing.T) {
			args := func(dir string) []string {
				return tinyRun("--run-dir", dir, "--method", "km", "--km-reference", form, "--seeds", "2", "--checkpoint-every", "1", "--epochs", "1")
			}
			whole := fmt.Sprintf("whole%d", i)
			r := guardcpu("", args(whole)...)
			require.Zero(t, r.status, r.stderr)
			want := results(t, whole)
			assert.NoFileExists(t, whole+"/"+rundir.Checkpoints)
			damaged := map[string]int{}
			for n := int64(600); len(damaged) < 3; n += 101 {
				require.Less(t, n, int64(6000), "the reference was damaged in all ways before the run was through: %v", damaged)
				dir := fmt.Sprintf("%s-%d", whole, n)
				ctx := &countdown{Context: context.Background()}
				ctx.left.Store(n)
				if r := guardcpuContext(ctx, "", args(dir)...); r.status != exitStopped {
					continue
				}
				path := filepath.Join(dir, rundir.Checkpoints, referenceFile)
				data, err := os.ReadFile(path)
				if err != nil || len(data) < 100 {
					continue
				}
				how := []string{"whole", "flipped", "cut"}[len(damaged)]
				switch how {
				case "flipped":
					data[len(data)-3] ^= 4
				case "cut":
					data = data[:len(data)/2]
				}
				damaged[how]++
				require.NoError(t, os.WriteFile(path, data, 0o600))
				r := guardcpu("", args(dir)...)
				require.Zero(t, r.status, r.stderr)
				assert.Equal(t, want, results(t, dir), "%s, stopped after %d", how, n)
				assert.NoFileExists(t, dir+"/"+rundir.Checkpoints)
			}
		})
	}
}
