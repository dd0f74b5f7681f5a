package tofu

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// LoadReport counts what became of a data file.
type LoadReport struct {
	File       string   `json:"file"`
	Rows       int      `json:"rows"`              // read
	Used       int      `json:"used"`              // became items: all, for a bad row is an error
	Skipped    int      `json:"skipped"`           // blank lines between rows
	Duplicates int      `json:"duplicates"`        // rows that say the same as an earlier one, kept
	Ignored    []string `json:"ignored,omitempty"` // names of fields that are not used, sorted
}

// Load reads a data set: JSON Lines, or one JSON array, of rows
//
//	{"question": …, "answer": …}            with, as may be, paraphrased_question,
//	                                        paraphrased_answer, perturbed_answer
//	                                        (a string or an array of strings)
//	{"question": …, "option1": … "option4": …, "answer": …}
//	                                        the options that are not the answer
//	                                        are the perturbed answers
//	{"prompt": …, "completion": …}
//	{"messages": [{"role": …, "content": …}, …]}
//	{"text": …}
//
// where the first that fits decides, names count in their exact case, and other
// fields are ignored and named in the report. A file that is not all right is
// refused whole, with file, line and field; errors never quote the data.
func Load(path string) ([]Item, *LoadReport, error) {
	info, err := os.Stat(path) // before opening: to open a FIFO may wait forever
	if err != nil {
		return nil, nil, fmt.Errorf("tofu: %w", err)
	}
	if !info.Mode().IsRegular() {
		what := "not a regular file"
		if info.IsDir() {
			what = "a directory"
		}
		return nil, nil, fmt.Errorf("tofu: %s is %s; want a JSON Lines file", path, what)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("tofu: %w", err)
	}
	return parse(path, data)
}

// Parse is Load from a reader; the name is used in errors.
func Parse(name string, r io.Reader) ([]Item, *LoadReport, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, nil, fmt.Errorf("tofu: %s: %w", name, err)
	}
	return parse(name, data)
}

func parse(name string, data []byte) ([]Item, *LoadReport, error) {
	if err := checkKind(name, data); err != nil {
		return nil, nil, err
	}
	rep := &LoadReport{File: name}
	var items []Item
	ignored := make(map[string]bool)
	seen := make(map[[32]byte]bool)
	row := func(r *jsonReader, v *jsonValue) error {
		rep.Rows++
		it, err := parseItem(r, v, ignored)
		if err != nil {
			return err
		}
		if k := it.key(); seen[k] {
			rep.Duplicates++
		} else {
			seen[k] = true
		}
		items = append(items, it)
		rep.Used++
		return nil
	}

	r := newJSONReader(name, data)
	if r.space() == '[' {
		// Rows are taken one at a time, so that an error stops the reading.
		r.pos++
		for more := r.space() != ']'; more; {
			v, err := r.value(1)
			if err != nil {
				return nil, nil, err
			}
			if err := row(r, &v); err != nil {
				return nil, nil, err
			}
			switch r.space() {
			case ',':
				r.pos++
			case ']':
				more = false
			default:
				return nil, nil, r.unexpected("',' or ']' between the rows of an array")
			}
		}
		r.pos++
		if r.space(); r.pos < len(r.data) {
			return nil, nil, r.unexpected("nothing after the array")
		}
	} else {
		next := r.line // where the next row may start
		for r.space(); r.pos < len(r.data); r.space() {
			switch c := r.data[r.pos]; {
			case c == ',' && rep.Rows > 0:
				return nil, nil, r.errorf(r.line, "found ',' after a row, want a line break (or an array, with [ before the first row)")
			case r.line < next:
				return nil, nil, r.errorf(r.line, "found more after a row, want one row a line")
			case c != '{':
				return nil, nil, r.unexpected(aRow)
			}
			rep.Skipped += r.line - next
			v, err := r.value(0)
			if err != nil {
				return nil, nil, err
			}
			if err := row(r, &v); err != nil {
				return nil, nil, err
			}
			next = r.line + 1
		}
	}
	if len(items) == 0 {
		return nil, nil, fmt.Errorf("tofu: %s holds no rows", name)
	}
	for k := range ignored {
		rep.Ignored = append(rep.Ignored, k)
	}
	slices.Sort(rep.Ignored)
	return items, rep, nil
}

const aRow = `a row like {"question": …, "answer": …}`

// checkKind recognises files that are not JSON at all.
func checkKind(name string, data []byte) error {
	if len(data) == 0 {
		return fmt.Errorf("tofu: %s is empty", name)
	}
	for _, k := range []struct{ magic, what, cure string }{
		{"\x1f\x8b", "a gzip archive", "unpack it (gunzip)"},
		{"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it (unzstd)"},
		{"PK\x03\x04", "a zip archive or a spreadsheet", "unpack or export it"},
		{"PAR1", "a Parquet file", "export it as JSON Lines"},
		{"GGUF", "a GGUF model", "give the data file"},
		{"\xff\xfe", "UTF-16 text", "save it as UTF-8"},
		{"\xfe\xff", "UTF-16 text", "save it as UTF-8"},
	} {
		if bytes.HasPrefix(data, []byte(k.magic)) {
			return fmt.Errorf("tofu: %s is %s, want JSON Lines: %s", name, k.what, k.cure)
		}
	}
	if len(data) >= 4 && (data[0] == 0 && data[1] != 0 || data[0] != 0 && data[1] == 0) {
		return fmt.Errorf("tofu: %s looks like UTF-16 text without a byte order mark, want JSON Lines: save it as UTF-8", name)
	}
	text := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\uFEFF")), " \t\r\n")
	first, _, _ := bytes.Cut(text, []byte("\n"))
	if len(first) > 0 && first[0] != '{' && first[0] != '[' {
		ext := strings.ToLower(filepath.Ext(name))
		header := slices.ContainsFunc(bytes.FieldsFunc(first, func(c rune) bool { return strings.ContainsRune(",;\t\r\"", c) }),
			func(f []byte) bool { return slices.Contains(rowFields, string(bytes.ToLower(bytes.TrimSpace(f)))) })
		if ext == ".csv" || ext == ".tsv" || header && bytes.ContainsAny(first, ",;\t") {
			return fmt.Errorf("tofu: %s looks like a table (CSV), want JSON Lines: on each line %s", name, aRow)
		}
	}
	return nil
}

// rowFields are the names that mean something here; only they appear in errors.
var rowFields = []string{
	"question", "answer", "paraphrased_question", "paraphrased_answer", "perturbed_answer",
	"option1", "option2", "option3", "option4",
	"prompt", "completion", "messages", "role", "content", "text",
}

// fieldName is how an error names a field: the name itself may be personal data.
func fieldName(key string) string {
	if slices.Contains(rowFields, strings.ToLower(key)) || slices.Contains(logFields, key) {
		return fmt.Sprintf("field %q", key)
	}
	return "a field"
}

// fields reads the fields of one row, remembering which were asked for.
type fields struct {
	r    *jsonReader
	v    *jsonValue
	in   string // what errors write before the names
	used map[string]bool
}

// text returns a field that must be there and hold more than white space.
func (f *fields) text(key string) (string, error) {
	f.used[key] = true
	m := f.v.member(key)
	if m == nil {
		for _, k := range f.v.keys {
			if strings.EqualFold(k, key) {
				return "", f.r.errorf(f.v.line, "field %q is missing; there is %q, but names count in their exact case", f.in+key, k)
			}
		}
		return "", f.r.errorf(f.v.line, "field %q is missing", f.in+key)
	}
	return f.textOf(m, key)
}

func (f *fields) textOf(m *jsonValue, key string) (string, error) {
	if m.kind != jsonString {
		return "", f.r.errorf(m.line, "field %q is %s, want a string", f.in+key, m.kind)
	}
	if strings.TrimSpace(m.str) == "" {
		return "", f.r.errorf(m.line, "field %q is empty", f.in+key)
	}
	return m.str, nil
}

// optional returns a field that may be absent or null; then it is "".
func (f *fields) optional(key string) (string, error) {
	f.used[key] = true
	if m := f.v.member(key); m == nil || m.kind == jsonNull {
		return "", nil
	}
	return f.text(key)
}

// texts returns a field that may be absent, null, a string or an array of strings.
func (f *fields) texts(key string) ([]string, error) {
	f.used[key] = true
	m := f.v.member(key)
	switch {
	case m == nil || m.kind == jsonNull:
		return nil, nil
	case m.kind == jsonString:
		s, err := f.text(key)
		return []string{s}, err
	case m.kind != jsonArray:
		return nil, f.r.errorf(m.line, "field %q is %s, want a string or an array of strings", f.in+key, m.kind)
	}
	var all []string
	for i := range m.vals {
		s, err := f.textOf(&m.vals[i], fmt.Sprintf("%s[%d]", key, i))
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (f *fields) has(keys ...string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return f.v.member(k) != nil })
}

func parseItem(r *jsonReader, v *jsonValue, ignored map[string]bool) (Item, error) {
	it := Item{Line: v.line}
	if v.kind != jsonObject {
		return it, r.errorf(v.line, "the row is %s, want %s", v.kind, aRow)
	}
	f := &fields{r: r, v: v, used: make(map[string]bool)}
	var err error
	switch {
	case f.has("question", "answer"):
		err = parseQA(f, &it)
	case f.has("prompt", "completion"):
		it.Shape = ShapePrompt
		if it.Question, err = f.text("prompt"); err == nil {
			it.Answer, err = f.text("completion")
		}
	case f.has("messages"):
		it.Shape = ShapeChat
		err = parseChat(f, &it)
	case f.has("text"):
		it.Shape = ShapeText
		it.Text, err = f.text("text")
	default:
		for _, k := range v.keys {
			if lower := strings.ToLower(k); lower != k && slices.Contains(rowFields, lower) {
				return it, r.errorf(v.line, "field %q is not known: names count in their exact case, want %q", k, lower)
			}
		}
		return it, r.errorf(v.line, "the row has none of the fields question and answer, prompt and completion, messages, text")
	}
	for _, k := range v.keys {
		if !f.used[k] {
			ignored[k] = true
		}
	}
	return it, err
}

func parseQA(f *fields, it *Item) (err error) {
	if it.Question, err = f.text("question"); err != nil {
		return err
	}
	if it.Answer, err = f.text("answer"); err != nil {
		return err
	}
	if it.ParaphrasedQuestion, err = f.optional("paraphrased_question"); err != nil {
		return err
	}
	if it.ParaphrasedAnswer, err = f.optional("paraphrased_answer"); err != nil {
		return err
	}
	if it.PerturbedAnswers, err = f.texts("perturbed_answer"); err != nil || len(it.PerturbedAnswers) > 0 {
		return err
	}
	options := []string{"option1", "option2", "option3", "option4"}
	if !f.has(options...) {
		return nil
	}
	for _, key := range options {
		option, err := f.text(key)
		if err != nil {
			return err
		}
		if option != it.Answer {
			it.PerturbedAnswers = append(it.PerturbedAnswers, option)
		}
	}
	if len(it.PerturbedAnswers) != len(options)-1 {
		return f.r.errorf(f.v.line, "field \"answer\" equals %d of the four options, want one", len(options)-len(it.PerturbedAnswers))
	}
	return nil
}

var chatRoles = []string{"system", "user", "assistant"}

func parseChat(f *fields, it *Item) error {
	f.used["messages"] = true
	list := f.v.member("messages")
	if list.kind != jsonArray {
		return f.r.errorf(list.line, "field \"messages\" is %s, want an array of {\"role\": …, \"content\": …}", list.kind)
	}
	for i := range list.vals {
		v := &list.vals[i]
		if v.kind != jsonObject {
			return f.r.errorf(v.line, "field \"messages[%d]\" is %s, want an object", i, v.kind)
		}
		m := &fields{r: f.r, v: v, in: fmt.Sprintf("messages[%d].", i), used: make(map[string]bool)}
		role, err := m.text("role")
		if err != nil {
			return err
		}
		if !slices.Contains(chatRoles, role) {
			return f.r.errorf(v.line, "field %q is not one of %s", m.in+"role", strings.Join(chatRoles, ", "))
		}
		content, err := m.text("content")
		if err != nil {
			return err
		}
		it.Messages = append(it.Messages, Message{role, content})
	}
	n := len(it.Messages)
	if n < 2 || it.Messages[n-1].Role != "assistant" || it.Messages[n-2].Role != "user" {
		return f.r.errorf(list.line, "field \"messages\" must end with a message of the user and one of the assistant, whose words count")
	}
	it.Answer = it.Messages[n-1].Content
	return nil
}
