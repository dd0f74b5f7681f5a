package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
)

// eval --logs gives the numbers of TOFU's own scripts for the logs of its published runs.
func TestEvalLogsOfTOFU(t *testing.T) {
	type set map[string][]json.RawMessage // log field → values by item
	runs, err := os.Open(enginetest.Shared(t, "tofu", "aggregates", "runs.jsonl"))
	require.NoError(t, err)
	defer runs.Close()
	dir := t.TempDir()
	names := map[string]string{"retain": "eval_log.json", "forget": "eval_log_forget.json",
		"real_authors": "eval_real_author_wo_options.json", "world_facts": "eval_real_world_wo_options.json"}
	s := bufio.NewScanner(runs)
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		var run struct {
			Run  string
			Sets map[string]set
		}
		require.NoError(t, json.Unmarshal(s.Bytes(), &run))
		require.NoError(t, os.Mkdir(filepath.Join(dir, run.Run), 0o700))
		for name, fields := range run.Sets {
			log := map[string]map[string]json.RawMessage{}
			for field, values := range fields {
				log[field] = map[string]json.RawMessage{}
				for i, v := range values {
					log[field][strconv.Itoa(i)] = v
				}
			}
			data, err := json.Marshal(log)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, run.Run, names[name]), data, 0o600))
		}
	}
	require.NoError(t, s.Err())

	var want struct {
		PerRun        map[string]map[string]json.RawMessage `json:"per_run"`
		ForgetQuality []struct {
			Unlearned, Reference string
			RowsUnlearned        []int   `json:"rows_unlearned"`
			RowsReference        []int   `json:"rows_reference"`
			KS                   float64 `json:"ks_statistic"`
			P                    float64 `json:"p_value"`
			N1, N2               int
		} `json:"forget_quality"`
	}
	data, err := os.ReadFile(enginetest.Shared(t, "tofu", "aggregates", "expected.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &want))
	evaluate := func(args ...string) (got map[string]any) {
		r := guardcpu("", append([]string{"eval", "--json"}, args...)...)
		require.Zero(t, r.status, r.stderr)
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
		return got
	}
	require.Len(t, want.PerRun, 8)
	for run, sets := range want.PerRun {
		got := evaluate("--logs", filepath.Join(dir, run))
		var utility float64
		require.NoError(t, json.Unmarshal(sets["model_utility"], &utility))
		assert.InDelta(t, utility, got["model_utility"], 1e-12, run)
		assert.Nil(t, got["forget_quality"])
		for name := range names {
			var values map[string]float64
			require.NoError(t, json.Unmarshal(sets[name], &values))
			for _, metric := range []string{"probability", "rougeL_recall", "truth_ratio"} {
				assert.InDelta(t, values[metric], got[name].(map[string]any)[metric], 1e-12, "%s %s %s", run, name, metric)
			}
		}
	}
	compared := 0
	for _, q := range want.ForgetQuality {
		if q.N1 != 300 || q.N2 != 300 || q.RowsUnlearned[0] != 3600 || q.RowsReference[0] != 3600 {
			continue // of a part of the rows; the folders have all
		}
		got := evaluate("--logs", filepath.Join(dir, q.Unlearned), "--retain-logs", filepath.Join(dir, q.Reference))
		assert.InEpsilon(t, q.P, got["forget_quality"], 1e-12, "%s against %s", q.Unlearned, q.Reference)
		assert.InDelta(t, q.KS, got["KS Test Forget"], 1e-12)
		compared++
	}
	assert.GreaterOrEqual(t, compared, 2)
}
