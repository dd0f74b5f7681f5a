package tofu

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/internal/mutate"
)

func exampleLogs() *Logs {
	full := Row{
		Index:  3,
		Answer: Loss{0.5, 2, 4}, Paraphrased: &Loss{1, 3, 3}, Perturbed: []Loss{{2, 4, 2}, {3, 3, 1}},
		Rouge:  &RougeRecall{0.75, 0.5},
		Prompt: "[INST] q <&> [/INST]", Generated: "“é”\n\x1b", Reference: "a",
	}
	second := full
	second.Index = 12
	return &Logs{
		Retain:      []Row{full, second},
		RealAuthors: []Row{full},
		Forget:      []Row{{Index: 0, Answer: Loss{0.5, 2, 4}}}, // rows of {text}
	}
}

func TestLogsRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	l := exampleLogs()
	require.NoError(t, l.Write(dir))
	got, err := ReadLogs(dir)
	require.NoError(t, err)
	assert.Equal(t, l, got)

	got, err = ReadLogs(filepath.Join(dir, "eval_log_aggregated.json"))
	require.NoError(t, err)
	assert.Equal(t, l, got)
	for _, f := range []string{"eval_log.json", "eval_log_forget.json", "eval_real_author_wo_options.json"} {
		require.NoError(t, os.Remove(filepath.Join(dir, f)))
	}
	got, err = ReadLogs(dir) // only the aggregated file is left
	require.NoError(t, err)
	assert.Equal(t, l, got)

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing temporary stays, and no log of world_facts")
}

// TestLogsReplaced: logs of fewer sets leave nothing of those before them.
func TestLogsReplaced(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, exampleLogs().Write(dir))
	fewer := &Logs{Retain: exampleLogs().Retain}
	require.NoError(t, fewer.Write(dir))
	got, err := ReadLogs(dir)
	require.NoError(t, err)
	assert.Equal(t, fewer, got)
}

// TestLogsAsTOFU: keys and their order are those of evaluate_util.py.
func TestLogsAsTOFU(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, exampleLogs().Write(dir))
	data, err := os.ReadFile(filepath.Join(dir, "eval_real_author_wo_options.json"))
	require.NoError(t, err)
	assert.Equal(t, `{
    "avg_gt_loss": {
        "3": 0.5
    },
    "gt_loss": {
        "3": 2
    },
    "num_token_gt": {
        "3": 4
    },
    "generated_text": {
        "3": [
            "[INST] q <&> [/INST]",
            "“é”\n\u001b",
            "a"
        ]
    },
    "rouge1_recall": {
        "3": 0.75
    },
    "rougeL_recall": {
        "3": 0.5
    },
    "average_perturb_loss": {
        "3": [
            2,
            3
        ]
    },
    "avg_paraphrased_loss": {
        "3": 1
    },
    "truth_ratio": {
        "3": `+jsonOf(math.Exp(1-2.5))+`
    },
    "paraphrased_loss": {
        "3": 3
    },
    "perturb_loss": {
        "3": [
            4,
            3
        ]
    },
    "num_token_paraphrased": {
        "3": 3
    },
    "num_token_perturb": {
        "3": [
            2,
            1
        ]
    },
    "normalized_gt_loss": {
        "3": `+jsonOf(-math.Log(1/(1+math.Exp(0.5-2)+math.Exp(0.5-3))))+`
    }
}
`, string(data))

	var files map[string]map[string]map[string]any
	data, err = os.ReadFile(filepath.Join(dir, "eval_log_aggregated.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &files))
	assert.Len(t, files, 3)
	assert.Len(t, files["eval_log.json"], 13, "normalized_gt_loss is of the other two")
	assert.Len(t, files["eval_log.json"]["avg_gt_loss"], 2)
	assert.Empty(t, files["eval_log_forget.json"]["rougeL_recall"])
	assert.Len(t, files["eval_log_forget.json"], 13)
}

func jsonOf(x float64) string {
	b, _ := json.Marshal(x)
	return string(b)
}

// TestLogsOverflow: a truth ratio past float64 is null in the log, and the metrics stay.
func TestLogsOverflow(t *testing.T) {
	dir := t.TempDir()
	l := &Logs{Retain: []Row{{Answer: Loss{Avg: 1}, Paraphrased: &Loss{Avg: 2000}, Perturbed: []Loss{{Avg: 1}}, Rouge: &RougeRecall{}}}}
	require.NoError(t, l.Write(dir))
	got, err := ReadLogs(dir)
	require.NoError(t, err)
	assert.Equal(t, l, got)
	data, err := os.ReadFile(filepath.Join(dir, "eval_log.json"))
	require.NoError(t, err)
	assert.Contains(t, strings.Join(strings.Fields(string(data)), ""), `"truth_ratio":{"0":null}`)
}

func TestLogsUnwritable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	assert.Error(t, exampleLogs().Write(file))
	assert.Error(t, exampleLogs().Write(filepath.Join(file, "below")))
}

const goodLog = `{
"avg_gt_loss": {"0": 1, "1": 2}, "rougeL_recall": {"0": 0.5, "1": 1},
"avg_paraphrased_loss": {"0": 1, "1": 1}, "average_perturb_loss": {"0": [1, 2], "1": [3, 4]}
}`

func readLogOf(t *testing.T, text string) (*Logs, error) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "eval_log.json"), []byte(text), 0o600))
	l, err := ReadLogs(dir)
	if err != nil {
		assert.Contains(t, err.Error(), filepath.Join(dir, "eval_log.json"))
	}
	return l, err
}

// TestReadLogsNeeds: the four keys that aggregates need are enough, also as
// arrays, and what Python writes for NaN elsewhere is read.
func TestReadLogsNeeds(t *testing.T) {
	want := []Row{
		{Index: 0, Answer: Loss{Avg: 1}, Paraphrased: &Loss{Avg: 1}, Perturbed: []Loss{{Avg: 1}, {Avg: 2}}},
		{Index: 1, Answer: Loss{Avg: 2}, Paraphrased: &Loss{Avg: 1}, Perturbed: []Loss{{Avg: 3}, {Avg: 4}}},
	}
	for _, text := range []string{
		goodLog,
		strings.Replace(goodLog, `{`, `{"truth_ratio": {"0": NaN, "1": -Infinity}, "gt_loss": {"0": Infinity}, "other": null,`, 1),
		`{"avg_gt_loss": [1, 2], "rougeL_recall": [0.5, 1], "avg_paraphrased_loss": [1, 1], "average_perturb_loss": [[1, 2], [3, 4]]}`,
	} {
		l, err := readLogOf(t, text)
		require.NoError(t, err)
		for i := range l.Retain {
			assert.True(t, math.IsNaN(l.Retain[i].Rouge.R1))
			l.Retain[i].Rouge, l.Retain[i].Answer.Sum = nil, 0
		}
		assert.Equal(t, want, l.Retain)
	}
	l, err := readLogOf(t, goodLog)
	require.NoError(t, err)
	m, err := l.Metrics(nil)
	require.NoError(t, err)
	_, ok := m.Get(Retain, "rouge1_recall")
	assert.False(t, ok)
	rL, ok := m.Get(Retain, "rougeL_recall")
	assert.True(t, ok)
	assert.Equal(t, 0.75, rL)
}

func TestReadLogsBad(t *testing.T) {
	swap := func(old, new string) string {
		require.Contains(t, goodLog, old)
		return strings.Replace(goodLog, old, new, 1)
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ":1: the file ends in the middle of a value"},
		{"an array", "[]", ":1: the log is an array, want an object"},
		{"cut off", goodLog[:50], ":2: the file ends"},
		{"two", goodLog + goodLog, "want nothing after the log"},
		{"no keys", "{}", `has no "avg_gt_loss"`},
		{"no losses", swap(`"avg_gt_loss"`, `"x"`), `has no "avg_gt_loss"`},
		{"no ROUGE", swap(`"rougeL_recall"`, `"x"`), `has no "rougeL_recall"`},
		{"no paraphrase", swap(`"avg_paraphrased_loss"`, `"x"`), `has no "avg_paraphrased_loss"`},
		{"no perturbed", swap(`"average_perturb_loss"`, `"x"`), `has no "average_perturb_loss"`},
		{"key twice", swap(`"rougeL_recall"`, `"avg_gt_loss"`), `:2: field "avg_gt_loss" is given twice`},
		{"no items", `{"avg_gt_loss": {}, "rougeL_recall": {}, "avg_paraphrased_loss": {}, "average_perturb_loss": {}}`, "avg_gt_loss holds no items"},
		{"item missing", swap(`, "1": 1}`, `}`), "rougeL_recall has no item 1, but avg_gt_loss has"},
		{"item too many", swap(`"0": 1, "1": 2}`, `"0": 1}`), "avg_gt_loss has no item 1, but"},
		{"item twice", swap(`"1": 2}`, `"0": 2}`), ":2: a field is given twice"},
		{"not an index", swap(`"1": 2}`, `"01": 2}`), ":2: avg_gt_loss: found a key that is not an item index"},
		{"negative index", swap(`"1": 2}`, `"-1": 2}`), ":2: avg_gt_loss: found a key that is not an item index"},
		{"column is a number", swap(`{"0": 1, "1": 2}`, `7`), ":2: avg_gt_loss: found a number, want an object"},
		{"loss is NaN", swap(`"1": 2}`, `"1": NaN}`), ":2: avg_gt_loss: item 1 is NaN, want a finite number"},
		{"loss is infinite", swap(`"1": 2}`, `"1": Infinity}`), ":2: avg_gt_loss: item 1 is +Inf, want a finite number"},
		{"loss is negative", swap(`"1": 2}`, `"1": -709.5}`), ":2: avg_gt_loss: item 1 is -709.5, want a finite number not below 0"},
		{"first of two", swap(`"0": 1, "1": 2}`, `"1": -2, "0": -1}`), ":2: avg_gt_loss: item 0 is -1,"},
		{"recall above 1", swap(`"1": 1}`, `"1": 1.5}`), ":2: rougeL_recall: item 1 is 1.5, want a number from 0 to 1"},
		{"perturbed is negative", swap(`[3, 4]`, `[3, -4]`), ":3: average_perturb_loss: item 1 is -4, want a finite number not below 0"},
		{"loss is null", swap(`"1": 2}`, `"1": null}`), ":2: avg_gt_loss: item 1 is null, want a finite number"},
		{"loss is a string", swap(`"1": 2}`, `"1": "2"}`), ":2: avg_gt_loss: item 1 is a string, want a finite number"},
		{"perturbed is a number", swap(`[3, 4]`, `3`), ":3: average_perturb_loss: item 1 is a number, want an array"},
		{"perturbed is empty", swap(`[3, 4]`, `[]`), ":3: average_perturb_loss: item 1 is an array, want an array of one number for each"},
		{"perturbed holds null", swap(`[3, 4]`, `[3, null]`), ":3: average_perturb_loss: item 1 is null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := readLogOf(t, c.text)
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.want)
			assert.Nil(t, l)
		})
	}

	dir := t.TempDir()
	_, err := ReadLogs(dir)
	assert.ErrorContains(t, err, "holds no logs; want at least one of [eval_log.json eval_real_author_wo_options.json eval_real_world_wo_options.json eval_log_forget.json]")
	_, err = ReadLogs(filepath.Join(dir, "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "eval_log.json"), 0o700))
	_, err = ReadLogs(dir)
	assert.ErrorContains(t, err, "is not a regular file")
	one := filepath.Join(dir, "x.json")
	require.NoError(t, os.WriteFile(one, []byte(goodLog), 0o600))
	_, err = ReadLogs(one)
	assert.ErrorContains(t, err, "holds none of the logs by name")
}

// FuzzReadLog: no log panics, and what is read has metrics or an error, and can be
// written and read again.
func FuzzReadLog(f *testing.F) {
	f.Add([]byte(goodLog))
	f.Add([]byte(strings.ReplaceAll(goodLog, "1", "1e308")))
	f.Add([]byte(`{"avg_gt_loss": [NaN], "rougeL_recall": {}, "avg_paraphrased_loss": [], "average_perturb_loss": {}, "generated_text": [["a","b","c"]]}`))
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		v, err := parseLog("f", data)
		if err == nil {
			_, err = readSet("f", v)
		}
		if err != nil {
			if !utf8.ValidString(err.Error()) || strings.ContainsRune(err.Error(), '\n') {
				t.Fatalf("error is not one line of text: %q", err)
			}
			return
		}
		rows, _ := readSet("f", v)
		log, err := encodeSet(RealAuthors, rows)
		require.NoError(t, err)
		v, err = parseLog("f", log)
		require.NoError(t, err)
		again, err := readSet("f", v)
		require.NoError(t, err)
		require.Len(t, again, len(rows))
		for i := range rows {
			require.Equal(t, rows[i].Answer.Avg, again[i].Answer.Avg)
			require.Equal(t, rows[i].Paraphrased == nil, again[i].Paraphrased == nil)
			require.Len(t, again[i].Perturbed, len(rows[i].Perturbed))
		}
		l := &Logs{RealAuthors: rows, Forget: rows}
		if m, err := l.Metrics(l); err == nil {
			_, err = json.Marshal(m)
			require.NoError(t, err)
		}
	})
}
