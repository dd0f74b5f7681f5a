package tofu

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/internal/mutate"
)

func parseString(data string) ([]Item, *LoadReport, error) {
	return Parse("f.jsonl", strings.NewReader(data))
}

func TestLoadShapes(t *testing.T) {
	qa := Item{Line: 1, Question: "q", Answer: "a"}
	for _, c := range []struct {
		name, data string
		want       []Item
	}{
		{"question and answer", `{"question":"q","answer":"a"}`, []Item{qa}},
		{"no last newline, CRLF, BOM, blank lines", "\uFEFF\r\n{\"question\":\"q\",\"answer\":\"a\"}\r\n\r\n{\"text\":\"t\"}",
			[]Item{{Line: 2, Question: "q", Answer: "a"}, {Line: 4, Shape: ShapeText, Text: "t"}}},
		{"array", `[{"question":"q","answer":"a"}, {"question":"q","answer":"a"}]`, []Item{qa, qa}},
		{"pretty-printed array", "[\n  {\n    \"question\": \"q\",\n    \"answer\": \"a\"\n  },\n  {\"text\": \"t\"}\n]\n",
			[]Item{{Line: 2, Question: "q", Answer: "a"}, {Line: 6, Shape: ShapeText, Text: "t"}}},
		{"pretty-printed objects", "{\n\"question\":\n\"q\",\"answer\":\"a\"}\n{\"text\":\"t\"}",
			[]Item{qa, {Line: 4, Shape: ShapeText, Text: "t"}}},
		{"all of TOFU", `{"question":"q","answer":"a","paraphrased_question":"pq","paraphrased_answer":"pa","perturbed_answer":["x","y"]}`,
			[]Item{{Line: 1, Question: "q", Answer: "a", ParaphrasedQuestion: "pq", ParaphrasedAnswer: "pa", PerturbedAnswers: []string{"x", "y"}}}},
		{"one perturbed answer", `{"question":"q","answer":"a","perturbed_answer":"x"}`,
			[]Item{{Line: 1, Question: "q", Answer: "a", PerturbedAnswers: []string{"x"}}}},
		{"null is absent", `{"question":"q","answer":"a","paraphrased_answer":null,"perturbed_answer":null}`, []Item{qa}},
		{"options", `{"question":"q","option1":"b","option2":"a","option3":"c","option4":"d","answer":"a"}`,
			[]Item{{Line: 1, Question: "q", Answer: "a", PerturbedAnswers: []string{"b", "c", "d"}}}},
		{"prompt and completion", `{"prompt":"p ","completion":" c"}`, []Item{{Line: 1, Shape: ShapePrompt, Question: "p ", Answer: " c"}}},
		{"chat", `{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},{"role":"assistant","content":"a"}]}`,
			[]Item{{Line: 1, Shape: ShapeChat, Answer: "a", Messages: []Message{{"system", "s"}, {"user", "u"}, {"assistant", "a"}}}}},
		{"escapes", `{"text":"\"\\\/\b\f\n\r\t\u00e9\u0000\ud83d\ude00é😀"}`,
			[]Item{{Line: 1, Shape: ShapeText, Text: "\"\\/\b\f\n\r\té\x00😀é😀"}}},
		{"special tokens are text", `{"text":"</s><|endoftext|>\u001b[31m"}`, []Item{{Line: 1, Shape: ShapeText, Text: "</s><|endoftext|>\x1b[31m"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			items, rep, err := parseString(c.data)
			require.NoError(t, err)
			assert.Equal(t, c.want, items)
			assert.Equal(t, len(c.want), rep.Used)
			assert.Equal(t, len(c.want), rep.Rows)
		})
	}
}

func TestLoadReport(t *testing.T) {
	_, rep, err := parseString("{\"question\":\"Q  x\",\"answer\":\"a\",\"z\":1,\"text\":\"t\"}\n\n\n{\"question\":\"q X\",\"answer\":\"A\",\"b\":{}}\n\n{\"prompt\":\"q x\",\"completion\":\"b\"}\n")
	require.NoError(t, err)
	assert.Equal(t, &LoadReport{File: "f.jsonl", Rows: 3, Used: 3, Skipped: 3, Duplicates: 1, Ignored: []string{"b", "text", "z"}}, rep)
}

func TestLoadLongLine(t *testing.T) {
	long := strings.Repeat("word ", 2<<20/5)
	items, _, err := parseString(`{"question":"q","answer":"` + long + `"}` + "\n" + `{"text":"t"}`)
	require.NoError(t, err)
	assert.Equal(t, long, items[0].Answer)
	assert.Equal(t, 2, items[1].Line)
}

// TestLoadBad: every bad file has its error. None quotes the data: the secret word
// stands in each.
func TestLoadBad(t *testing.T) {
	const row = `{"question":"SECRET","answer":"SECRET"}`
	for _, c := range []struct{ name, data, want string }{
		{"empty", "", "f.jsonl is empty"},
		{"blank", " \n\n", "f.jsonl holds no rows"},
		{"empty array", "[]", "f.jsonl holds no rows"},
		{"gzip", "\x1f\x8b\x08SECRET", "is a gzip archive"},
		{"zip", "PK\x03\x04SECRET", "is a zip archive or a spreadsheet"},
		{"parquet", "PAR1SECRET", "is a Parquet file"},
		{"model", "GGUFSECRET", "is a GGUF model"},
		{"UTF-16 LE with mark", "\xff\xfe{\x00", "is UTF-16 text"},
		{"UTF-16 BE with mark", "\xfe\xff\x00{", "is UTF-16 text"},
		{"UTF-16 without mark", "{\x00\"\x00", "looks like UTF-16"},
		{"CSV", "question,answer\nSECRET,SECRET\n", "looks like a table (CSV)"},
		{"CSV with quotes", "\"id\";\"Question\";\"Answer\"\n", "looks like a table (CSV)"},
		{"plain text", "SECRET text\n", "f.jsonl:1: found a bare word, want a row like"},
		{"a string", "\n\"SECRET\"", "f.jsonl:2: found '\"', want a row"},
		{"row in an array is a string", "[" + row + ",\n\"SECRET\"]", "f.jsonl:2: the row is a string, want a row like"},
		{"two on a line", row + row, "f.jsonl:1: found more after a row, want one row a line"},
		{"comma between rows", row + ",\n" + row, "f.jsonl:1: found ',' after a row"},
		{"comma on the next line", row + "\n," + row, "f.jsonl:2: found ',' after a row"},
		{"after the array", "[" + row + "]\n" + row, "f.jsonl:2: found '{', want nothing after the array"},
		{"array cut off", "[" + row, "f.jsonl:1: the file ends where ',' or ']' between the rows"},
		{"array cut off after a comma", "[" + row + ",\n", "f.jsonl:2: the file ends in the middle of a value"},
		{"comma before ]", "[" + row + ",]", "f.jsonl:1: found ']', want a value (a comma too many"},
		{"comma before }", `{"question":"SECRET",}`, "f.jsonl:1: found '}', want a field name"},
		{"cut off in a string", "{\"text\":\"SECRET", "f.jsonl:1: the file ends inside a string"},
		{"cut off in an escape", "{\"text\":\"SECRET\\", "f.jsonl:1: the file ends inside a string"},
		{"cut off after a name", "{\"text\"", "f.jsonl:1: the file ends where ':'"},
		{"cut off after a value", "{\"text\":\"SECRET\"", "f.jsonl:1: the file ends where ',' or '}'"},
		{"line break in a string", row + "\n{\"text\":\"SECRET\nx\"}", "f.jsonl:2: the line ends inside a string"},
		{"control character", "{\"text\":\"SECRET\x1b\"}", `f.jsonl:1: found control character 0x1b in a string; write it as \u001b`},
		{"not UTF-8", row + "\n{\"text\":\"SECRET\xe9\"}", "f.jsonl:2: found byte 0xe9, which is not UTF-8"},
		{"lone high surrogate", `{"text":"SECRET\ud83d"}`, "f.jsonl:1: found half of a surrogate pair"},
		{"lone low surrogate", `{"text":"SECRET\ude00\ud83d"}`, "f.jsonl:1: found half of a surrogate pair"},
		{"bad escape", `{"text":"SECRET\x"}`, "f.jsonl:1: found an escape that JSON does not have"},
		{"bad hex", `{"text":"SECRET\u00g0"}`, `f.jsonl:1: found \u without four hexadecimal digits`},
		{"single quotes", `{'text':'SECRET'}`, "f.jsonl:1: found a single quote"},
		{"comment", "{\"text\":\"SECRET\"}\n// SECRET", "f.jsonl:2: found a comment"},
		{"comment inside", `{"text": /* SECRET */ "x"}`, "f.jsonl:1: found a comment"},
		{"NaN", `{"question":"SECRET","answer":NaN}`, "f.jsonl:1: NaN is not JSON"},
		{"Infinity", `{"question":"SECRET","answer":-Infinity}`, "f.jsonl:1: found a malformed number"},
		{"leading zero", `{"x":01,"text":"SECRET"}`, "f.jsonl:1: found a malformed number"},
		{"huge number", `{"x":1e999,"text":"SECRET"}`, "f.jsonl:1: found a number that float64 cannot hold"},
		{"no colon", `{"text" "SECRET"}`, "f.jsonl:1: found '\"', want ':' after a field name"},
		{"name twice", `{"question":"SECRET","question":"SECRET","answer":"a"}`, `f.jsonl:1: field "question" is given twice`},
		{"unknown name twice", `{"SECRET":1,"SECRET":2,"text":"a"}`, "f.jsonl:1: a field is given twice"},
		{"deep array", `{"text":` + strings.Repeat("[", 100_000), "f.jsonl:1: arrays or objects lie more than 64 deep"},
		{"deep object", strings.Repeat(`{"text":`, 100_000), "f.jsonl:1: arrays or objects lie more than 64 deep"},
		{"no known field", `{"SECRET":"SECRET"}`, "f.jsonl:1: the row has none of the fields"},
		{"other case", `{"Question":"SECRET","Answer":"SECRET"}`, `f.jsonl:1: field "Question" is not known: names count in their exact case, want "question"`},
		{"other case of one", `{"question":"SECRET","Answer":"SECRET"}`, `f.jsonl:1: field "answer" is missing; there is "Answer"`},
		{"no answer", row + "\n\n" + `{"question":"SECRET"}`, `f.jsonl:3: field "answer" is missing`},
		{"no question", `{"answer":"SECRET"}`, `f.jsonl:1: field "question" is missing`},
		{"no completion", `{"prompt":"SECRET"}`, `f.jsonl:1: field "completion" is missing`},
		{"answer is a number", "{\"question\":\"SECRET\",\n\"answer\":1}", `f.jsonl:2: field "answer" is a number, want a string`},
		{"answer is null", `{"question":"SECRET","answer":null}`, `f.jsonl:1: field "answer" is null, want a string`},
		{"answer is an array", `{"question":"SECRET","answer":["SECRET"]}`, `f.jsonl:1: field "answer" is an array, want a string`},
		{"answer is blank", `{"question":"SECRET","answer":" \t"}`, `f.jsonl:1: field "answer" is empty`},
		{"perturbed is an object", `{"question":"SECRET","answer":"a","perturbed_answer":{}}`, `f.jsonl:1: field "perturbed_answer" is an object, want a string or an array of strings`},
		{"perturbed holds a number", `{"question":"SECRET","answer":"a","perturbed_answer":["SECRET",2]}`, `f.jsonl:1: field "perturbed_answer[1]" is a number`},
		{"answer is no option", `{"question":"SECRET","answer":"e","option1":"a","option2":"b","option3":"c","option4":"d"}`, `f.jsonl:1: field "answer" equals 0 of the four options`},
		{"answer is two options", `{"question":"SECRET","answer":"a","option1":"a","option2":"a","option3":"c","option4":"d"}`, `f.jsonl:1: field "answer" equals 2 of the four options`},
		{"option missing", `{"question":"SECRET","answer":"a","option1":"a"}`, `f.jsonl:1: field "option2" is missing`},
		{"messages is a string", `{"messages":"SECRET"}`, `f.jsonl:1: field "messages" is a string, want an array`},
		{"message is a string", `{"messages":["SECRET"]}`, `f.jsonl:1: field "messages[0]" is a string, want an object`},
		{"message without content", `{"messages":[{"role":"user"}]}`, `f.jsonl:1: field "messages[0].content" is missing`},
		{"unknown role", `{"messages":[{"role":"SECRET","content":"x"}]}`, `f.jsonl:1: field "messages[0].role" is not one of system, user, assistant`},
		{"chat ends with the user", `{"messages":[{"role":"user","content":"SECRET"}]}`, `f.jsonl:1: field "messages" must end with`},
		{"text is a number", `{"text":5}`, `f.jsonl:1: field "text" is a number, want a string`},
	} {
		t.Run(c.name, func(t *testing.T) {
			items, rep, err := parseString(c.data)
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.want)
			assert.True(t, strings.HasPrefix(err.Error(), "tofu: f.jsonl"), err)
			assert.NotContains(t, err.Error(), "SECRET")
			assert.NotContains(t, err.Error(), "\n")
			assert.Nil(t, items)
			assert.Nil(t, rep)
		})
	}
}

func TestLoadPaths(t *testing.T) {
	dir := t.TempDir()
	_, _, err := Load(dir)
	assert.ErrorContains(t, err, "is a directory")
	_, _, err = Load(filepath.Join(dir, "none.jsonl"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestLoadTOFU(t *testing.T) {
	dir := enginetest.Shared(t, "tofu")
	for _, c := range []struct {
		file            string
		rows, perturbed int
		paraphrased     bool
	}{
		{"full/full.jsonl", 4000, 0, false},
		{"full/forget10_perturbed.jsonl", 400, 5, true},
		{"full/retain_perturbed.jsonl", 400, 5, true},
		{"full/holdout10.jsonl", 400, 0, false},
		{"full/real_authors.jsonl", 100, 3, false},
		{"full/world_facts.jsonl", 117, 3, false},
		{"real_authors_perturbed.json", 100, 3, false},
		{"world_facts_perturbed.json", 117, 3, false},
	} {
		items, rep, err := Load(filepath.Join(dir, c.file))
		require.NoError(t, err, c.file)
		assert.Equal(t, c.rows, rep.Used, c.file)
		for i, it := range items {
			require.Len(t, it.PerturbedAnswers, c.perturbed, "%s:%d", c.file, it.Line)
			require.Equal(t, c.paraphrased, it.ParaphrasedAnswer != "", "%s:%d", c.file, it.Line)
			require.Equal(t, i+1, it.Line)
		}
	}
	// The options that are not the answer are the perturbed answers of the perturbed file.
	options, _, err := Load(filepath.Join(dir, "full/real_authors.jsonl"))
	require.NoError(t, err)
	perturbed, _, err := Load(filepath.Join(dir, "real_authors_perturbed.json"))
	require.NoError(t, err)
	for i := range options {
		assert.ElementsMatch(t, perturbed[i].PerturbedAnswers, options[i].PerturbedAnswers)
	}
	_, _, err = Load(filepath.Join(dir, "idontknow.jsonl")) // plain lines
	assert.ErrorContains(t, err, ":1: found a bare word, want a row")
}

func TestSplits(t *testing.T) {
	dir := enginetest.Shared(t, "tofu", "full")
	full, _, err := Load(filepath.Join(dir, "full.jsonl"))
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(dir, "splits.json"))
	require.NoError(t, err)
	var splits map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &splits))
	for _, name := range []string{"full", "forget01", "forget05", "forget10", "retain99", "retain95", "retain90"} {
		var want [2]int
		require.NoError(t, json.Unmarshal(splits[name], &want))
		got, err := Split(full, name)
		require.NoError(t, err)
		assert.Equal(t, want[1]-want[0], len(got), name)
		assert.Equal(t, want[0]+1, got[0].Line, name)
		assert.Equal(t, want[1], got[len(got)-1].Line, name)
	}
	for _, name := range []string{"", "forget", "forget00", "forget100", "forget1", "retain-1", "forget+5", "Forget10"} {
		_, err := Split(full, name)
		assert.ErrorContains(t, err, "is not known", name)
	}
	_, err = Split(full[:10], "forget01")
	assert.ErrorContains(t, err, "leaves the forget or the retain set empty")
	forget, retain, err := splitShare(full[:10], 0.25)
	require.NoError(t, err)
	assert.Equal(t, 3, len(forget))
	assert.Equal(t, 7, len(retain))
	for _, share := range []float64{0, 1, -1, 2} {
		_, _, err = splitShare(full, share)
		assert.Error(t, err)
	}
}

func TestCheckOverlap(t *testing.T) {
	forget, _, err := parseString("{\"question\":\"q1\",\"answer\":\"a\"}\n{\"question\":\" Q2 x\",\"answer\":\"a\"}\n{\"text\":\"q1 a\"}")
	require.NoError(t, err)
	retain, _, err := parseString("{\"question\":\"q1\",\"answer\":\"b\"}\n{\"question\":\"q2\\tX\",\"answer\":\"A \"}\n{\"question\":\"q2 x\",\"answer\":\"a\"}")
	require.NoError(t, err)
	err = CheckOverlap(forget, retain)
	var overlap *OverlapError
	require.ErrorAs(t, err, &overlap)
	assert.Equal(t, [][2]int{{2, 2}}, overlap.Lines)
	assert.EqualError(t, err, "tofu: 1 of the rows to forget are in the retain set too: forget line 2 = retain line 2")
	assert.NoError(t, CheckOverlap(forget[:1], retain))

	many := make([]Item, 8)
	for i := range many {
		many[i] = Item{Question: "q", Answer: fmt.Sprint(i), Line: i + 1}
	}
	assert.ErrorContains(t, CheckOverlap(many, many), "forget line 5 = retain line 5, and 3 more")
}

// FuzzParse: no input panics; what is accepted is whole, valid text, and a file
// that encoding/json writes again from it gives the same items.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"question":"q","answer":"a","perturbed_answer":["x"]}`, "[{\"text\":\"t\"},\n{\"prompt\":\"p\",\"completion\":\"c\"}]",
		`{"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}]}`, "\uFEFF{\"text\":\"\\ud83d\\ude00\"}\r\n",
		`{"question":"q","option1":"b","option2":"a","option3":"c","option4":"d","answer":"a","x":-1.5e+3}`, "question,answer", "{{", "[[[",
	} {
		f.Add([]byte(s))
	}
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		items, rep, err := Parse("f", strings.NewReader(string(data)))
		if err != nil {
			if !utf8.ValidString(err.Error()) || strings.ContainsRune(err.Error(), '\n') {
				t.Fatalf("error is not one line of text: %q", err)
			}
			return
		}
		if len(items) == 0 || rep.Used != len(items) {
			t.Fatalf("%d items, report %+v", len(items), rep)
		}
		var again strings.Builder
		for _, it := range items {
			m := map[string]any{}
			switch it.Shape {
			case ShapeText:
				m["text"] = it.Text
			case ShapePrompt:
				m["prompt"], m["completion"] = it.Question, it.Answer
			case ShapeChat:
				var list []map[string]string
				for _, msg := range it.Messages {
					list = append(list, map[string]string{"role": msg.Role, "content": msg.Content})
				}
				m["messages"] = list
			default:
				m["question"], m["answer"] = it.Question, it.Answer
				if it.PerturbedAnswers != nil {
					m["perturbed_answer"] = it.PerturbedAnswers
				}
				if it.ParaphrasedAnswer != "" {
					m["paraphrased_answer"] = it.ParaphrasedAnswer
				}
				if it.ParaphrasedQuestion != "" {
					m["paraphrased_question"] = it.ParaphrasedQuestion
				}
			}
			line, err := json.Marshal(m)
			require.NoError(t, err)
			again.Write(append(line, '\n'))
		}
		items2, _, err := Parse("f", strings.NewReader(again.String()))
		require.NoError(t, err)
		require.Len(t, items2, len(items))
		for i := range items {
			items2[i].Line = items[i].Line
			require.Equal(t, items[i], items2[i])
		}
	})
}
