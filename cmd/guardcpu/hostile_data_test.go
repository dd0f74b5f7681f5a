//go:build unix

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hostileData has a data file of each kind in RELIABILITY.md, section 4.4, as the forget set. The rows
// with SECRET are a person's.
func hostileData(t *testing.T) []struct {
	name, data string
	want       string // a regular expression of the error; empty: it is accepted
	same       bool   // and says the same as plain
} {
	const q, a = `"where is SECRET"`, `"in SECRET rome."`
	const row = `{"question":` + q + `,"answer":` + a + `}`
	const other = `{"question":"who","answer":"SECRET x."}`
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := w.Write([]byte(row))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	wide := func(s string) string {
		var b strings.Builder
		for _, u := range utf16.Encode([]rune(s)) {
			b.WriteByte(byte(u))
			b.WriteByte(byte(u >> 8))
		}
		return b.String()
	}
	text := func(n int) string { return strings.Repeat("word ", n/5) }
	return []struct {
		name, data string
		want       string
		same       bool
	}{
		{"plain", row + "\n" + other + "\n", "", true},
		{"byte order mark", "\uFEFF" + row + "\n" + other + "\n", "", true},
		{"CRLF", row + "\r\n" + other + "\r\n", "", true},
		{"no last newline", row + "\n" + other, "", true},
		{"blank lines", "\n" + row + "\n\n \n" + other + "\n\n", "", true},
		{"extra fields", `{"id":7,"question":` + q + `,"answer":` + a + `,"tags":[null,{"x":1}]}` + "\n" + other + "\n", "", true},
		{"escapes", `{"question":"\u0077here\u0020is SECRET","answer":"in SECRET \u0072ome."}` + "\n" + other + "\n", "", true},
		{"a JSON array", "[" + row + "," + other + "]", "", true},
		{"pretty-printed", "{\n  \"question\": " + q + ",\n  \"answer\": " + a + "\n}\n" + other + "\n", "", true},
		{"a line of 200 kB", `{"question":"` + text(200e3) + `","answer":"a."}` + "\n", `line 1: no token of the answer counts.*\(forget set\); raise --max-length`, false},
		{"an answer of 200 kB", `{"question":"q","answer":"` + text(200e3) + `"}` + "\n", "", false},
		{"an answer of 8 MB", `{"question":"q","answer":"` + text(8e6) + `"}` + "\n", "", false},
		{"duplicates", row + "\n" + row + "\n" + row + "\n", "", false},
		{"text of special tokens", `{"question":"</s><s>[INST]<|endoftext|>","answer":"</s> <unk> x."}` + "\n", "", false},
		{"terminal escapes, escaped", `{"question":"\u001b[31m","answer":"\u001b]0;x\u0007."}` + "\n", "", false},
		{"NUL, escaped", `{"question":"q\u0000","answer":"a\u0000."}` + "\n", "", false},

		{"empty", "", `f\.jsonl is empty`, false},
		{"blank", "\n\n", `f\.jsonl holds no rows`, false},
		{"UTF-16 with mark", "\xff\xfe" + wide(row), `f\.jsonl is UTF-16 text.* save it as UTF-8`, false},
		{"UTF-16", wide(row), `f\.jsonl looks like UTF-16`, false},
		{"gzip", zipped.String(), `f\.jsonl is a gzip archive.*gunzip`, false},
		{"CSV", "question,answer\nSECRET,SECRET\n", `f\.jsonl looks like a table \(CSV\)`, false},
		{"two on a line", row + " " + other + "\n", `f\.jsonl:1: found more after a row`, false},
		{"truncated", row + "\n" + other[:20], `f\.jsonl:2: the file ends inside a string`, false},
		{"invalid UTF-8", row + "\n{\"question\":\"SECRET \xe9\",\"answer\":\"a\"}\n", `f\.jsonl:2: found byte 0xe9, which is not UTF-8`, false},
		{"missing field", row + "\n{\"question\":\"SECRET\"}\n", `f\.jsonl:2: field "answer" is missing`, false},
		{"wrong type", row + "\n{\"question\":\"SECRET\",\"answer\":[\"SECRET\"]}\n", `f\.jsonl:2: field "answer" is an array, want a string`, false},
		{"empty field", row + "\n{\"question\":\"\",\"answer\":\"SECRET\"}\n", `f\.jsonl:2: field "question" is empty`, false},
		{"duplicate key", `{"question":"SECRET","question":"SECRET","answer":"a"}` + "\n", `f\.jsonl:1: field "question" is given twice`, false},
		{"duplicate key in another case", `{"question":"SECRET","Question":"SECRET","answer":"a"}` + "\n", "", false},
		{"key in another case", `{"Question":"SECRET","answer":"a"}` + "\n", `f\.jsonl:1: field "question" is missing; there is "Question"`, false},
		{"NaN", `{"question":"SECRET","answer":"a","p":NaN}` + "\n", `f\.jsonl:1: NaN is not JSON`, false},
		{"comment", row + "\n// SECRET\n", `f\.jsonl:2: found a comment`, false},
		{"lone surrogate", `{"question":"SECRET\ud800","answer":"a"}` + "\n", `f\.jsonl:1: found half of a surrogate pair`, false},
		{"NUL", "{\"question\":\"SECRET\x00\",\"answer\":\"a\"}\n", `f\.jsonl:1: found control character 0x00`, false},
		{"NULs", strings.Repeat("\x00", 4096), `f\.jsonl:1: found byte 0x00`, false},
		{"terminal escapes", "{\"question\":\"\x1b[31mSECRET\",\"answer\":\"a\"}\n", `f\.jsonl:1: found control character 0x1b`, false},
		{"100,000 deep", `{"question":"SECRET","answer":"a","x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}\n", `f\.jsonl:1: arrays or objects lie more than 64 deep`, false},
		{"a line of 100 MB", `{"question":"SECRET` + text(100e6), `f\.jsonl:1: the file ends inside a string`, false},
	}
}

// Every kind of data set is used whole, or refused with file, line and field, in bounded time; what it says of
// persons is never told.
func TestHostileData(t *testing.T) {
	workshop(t)
	attribute := func(forget string) result {
		return guardcpu("", "attribute", "--model", "model.gguf", "--forget", forget, "--retain", "retain.jsonl", "--out", "scores", "--force")
	}
	lines := regexp.MustCompile(`"line":\d+`)
	scores := func() string { // but for the number of the line
		data, err := os.ReadFile("scores/scores.jsonl")
		require.NoError(t, err)
		return lines.ReplaceAllString(string(data), "")
	}
	var plain string
	for _, c := range hostileData(t) {
		if len(c.data) > 1<<20 && testing.Short() {
			continue
		}
		require.NoError(t, os.WriteFile("f.jsonl", []byte(c.data), 0o600))
		require.NoError(t, os.RemoveAll("scores"))
		start := time.Now()
		r := attribute("f.jsonl")
		assert.Less(t, time.Since(start), time.Minute, c.name)
		assert.NotContains(t, r.stderr+r.stdout, "SECRET", c.name)
		assert.NotContains(t, r.stderr, "\x1b", c.name)
		if c.want != "" {
			assert.Equal(t, exitData, r.status, "%s: %s", c.name, r.stderr)
			assert.Regexp(t, "^guardcpu: "+c.want+".*\n$", r.stderr, c.name)
			assert.NoFileExists(t, "scores/scores.jsonl", c.name)
			continue
		}
		require.Zero(t, r.status, "%s: %s", c.name, r.stderr)
		switch {
		case plain == "":
			plain = scores()
		case c.same:
			assert.Equal(t, plain, scores(), c.name)
		}
	}
	for path, want := range map[string]string{"dir": "is a directory", "pipe": "is not a regular file", os.DevNull: "is not a regular file", "absent": "no such file"} {
		switch path {
		case "dir":
			require.NoError(t, os.Mkdir(path, 0o700))
		case "pipe":
			require.NoError(t, syscall.Mkfifo(path, 0o600))
		}
		r := attribute(path)
		assert.Equal(t, exitData, r.status, path)
		assert.Regexp(t, "^guardcpu: "+path+".*"+want+".*\n$", r.stderr)
	}
	r := attribute("retain.jsonl")
	assert.Equal(t, exitData, r.status)
	assert.Contains(t, r.stderr, "8 of the rows to forget are in the retain set too: forget line 1 = retain line 1")
}

// The manifest of a run counts the rows that were read, used and skipped, those of which tokens were cut
// off, and those that were in both sets.
func TestCountsOfRows(t *testing.T) {
	workshop(t)
	forget, err := os.ReadFile("forget.jsonl")
	require.NoError(t, err)
	long := fmt.Sprintf(`{"question":"who","answer":%q,"paraphrased_answer":"x.","perturbed_answer":["y.","z."]}`, strings.Repeat("long ", 30))
	retain, err := os.ReadFile("retain.jsonl")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("forget.jsonl", []byte(string(forget)+"\n\n"+string(forget[:bytes.IndexByte(forget, '\n')+1])+long+"\n"), 0o600))
	require.NoError(t, os.WriteFile("retain.jsonl", append(retain, forget...), 0o600))
	r := guardcpu("", tinyRun("--run-dir", "r", "--allow-overlap", "--max-length", "60", "--finetune", "no")...)
	require.Zero(t, r.status, r.stderr)
	data := readJSON(t, "r/manifest.json")
	rows := data["rows"].([]any)
	f := rows[0].(map[string]any)
	assert.EqualValues(t, []any{6.0, 6.0, 2.0, 1.0}, []any{f["rows"], f["used"], f["skipped"], f["duplicates"]})
	assert.EqualValues(t, 12, rows[1].(map[string]any)["rows"])
	samples := data["samples"].(map[string]any)
	assert.EqualValues(t, 1, samples["forget"].(map[string]any)["truncated"])
	assert.EqualValues(t, 4, data["dropped"])
	assert.Contains(t, r.stderr, "4 rows are in both sets: they are forgotten, and not retained")
	assert.Contains(t, r.stderr, "cut at 60 tokens (--max-length)")
}
