package tofu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/guardcpu/guardcpu/gguf/atomicfile"
)

// Set names one of the four sets of an evaluation.
type Set string

const (
	Retain      Set = "retain"
	RealAuthors Set = "real_authors"
	WorldFacts  Set = "world_facts"
	Forget      Set = "forget"
)

// evalSets are the sets in TOFU's order, with the names that TOFU gives their log
// files and their aggregates.
var evalSets = []struct {
	Set        Set
	File, TOFU string
}{
	{Retain, "eval_log.json", "Retain"},
	{RealAuthors, "eval_real_author_wo_options.json", "Real Authors"},
	{WorldFacts, "eval_real_world_wo_options.json", "Real World"},
	{Forget, "eval_log_forget.json", "Forget"},
}

// aggregatedFile holds the four logs in one object, by file name. It is what
// TOFU's aggregate_eval_stat.py reads.
const aggregatedFile = "eval_log_aggregated.json"

// Loss is the negative log-likelihood of an answer: its sum in nats over N tokens, EOS
// included, and the mean. A log that was read has the mean at least.
type Loss struct {
	Avg, Sum float64
	N        int
}

// RougeRecall is what Rouge returns.
type RougeRecall struct{ R1, RL float64 }

// Row is what was measured on one item of a set. Paraphrased and Rouge are nil,
// and Perturbed is empty, where the item allows no such measurement.
type Row struct {
	Index                        int // of the item in its set
	Answer                       Loss
	Paraphrased                  *Loss
	Perturbed                    []Loss
	Rouge                        *RougeRecall
	Prompt, Generated, Reference string
}

// Logs are the measurements of one model. A set that was not evaluated is empty.
type Logs struct {
	Retain, RealAuthors, WorldFacts, Forget []Row
}

// Rows returns the rows of a set, for reading and replacing.
func (l *Logs) Rows(s Set) *[]Row {
	switch s {
	case Retain:
		return &l.Retain
	case RealAuthors:
		return &l.RealAuthors
	case WorldFacts:
		return &l.WorldFacts
	case Forget:
		return &l.Forget
	}
	panic(fmt.Sprintf("tofu: there is no set %q", s))
}

// logFields are the keys of a log, in the order in which TOFU writes them. Each
// holds an object from item index to value.
var logFields = []string{
	"avg_gt_loss", "gt_loss", "num_token_gt", "generated_text", "rouge1_recall", "rougeL_recall",
	"average_perturb_loss", "avg_paraphrased_loss", "truth_ratio", "paraphrased_loss", "perturb_loss",
	"num_token_paraphrased", "num_token_perturb", "normalized_gt_loss",
}

// logValue returns what a row has under a key; false if it was not measured.
func logValue(key string, r *Row) (any, bool) {
	switch key {
	case "avg_gt_loss":
		return number(r.Answer.Avg), true
	case "gt_loss":
		return number(r.Answer.Sum), true
	case "num_token_gt":
		return r.Answer.N, true
	}
	if r.Rouge != nil {
		switch key {
		case "generated_text":
			return []string{r.Prompt, r.Generated, r.Reference}, true
		case "rouge1_recall":
			return number(r.Rouge.R1), !math.IsNaN(r.Rouge.R1)
		case "rougeL_recall":
			return number(r.Rouge.RL), true
		}
	}
	if r.Paraphrased != nil {
		switch key {
		case "avg_paraphrased_loss":
			return number(r.Paraphrased.Avg), true
		case "paraphrased_loss":
			return number(r.Paraphrased.Sum), true
		case "num_token_paraphrased":
			return r.Paraphrased.N, true
		case "truth_ratio":
			c, ok := logTruthRatio(r)
			return number(math.Exp(-c)), ok
		}
	}
	if len(r.Perturbed) > 0 {
		all := make([]any, len(r.Perturbed))
		for i, l := range r.Perturbed {
			switch key {
			case "average_perturb_loss":
				all[i] = number(l.Avg)
			case "perturb_loss":
				all[i] = number(l.Sum)
			case "num_token_perturb":
				all[i] = l.N
			case "normalized_gt_loss":
				p, ok := choiceProbability(r)
				return number(-math.Log(p)), ok
			default:
				return nil, false
			}
		}
		return all, true
	}
	return nil, false
}

// number is what JSON can hold of x: null unless it is finite.
func number(x float64) any {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return x
}

// object writes a JSON object whose members keep their order.
type object struct{ bytes.Buffer }

func (o *object) add(key string, value any) error {
	if o.Len() == 0 {
		o.WriteByte('{')
	} else {
		o.WriteByte(',')
	}
	enc := json.NewEncoder(o)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(key); err != nil {
		return err
	}
	o.WriteByte(':')
	return enc.Encode(value)
}

func (o *object) close() json.RawMessage {
	if o.Len() == 0 {
		o.WriteByte('{')
	}
	o.WriteByte('}')
	return o.Bytes()
}

// LogFile returns the name of the log file of a set.
func LogFile(set Set) string {
	for _, s := range evalSets {
		if s.Set == set {
			return s.File
		}
	}
	panic(fmt.Sprintf("tofu: there is no set %q", set))
}

// WriteSet writes the log of one set into a directory, which it makes if need be, as Write does.
func (l *Logs) WriteSet(dir string, set Set) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("tofu: %w", err)
	}
	log, err := encodeSet(set, *l.Rows(set))
	if err != nil {
		return fmt.Errorf("tofu: %s: %w", LogFile(set), err)
	}
	return writeJSON(filepath.Join(dir, LogFile(set)), log)
}

// Write writes the logs into a directory, which it makes if need be: a file for
// each set that was evaluated and eval_log_aggregated.json with all of them, in the
// layout of the TOFU repository. Each file is replaced atomically (but on Windows); the
// log of a set that was not evaluated is removed, or ReadLogs would mix two evaluations.
// What was not measured has its key with an empty object; a truth_ratio or
// normalized_gt_loss past float64 is null.
func (l *Logs) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("tofu: %w", err)
	}
	var all object
	for _, s := range evalSets {
		path, rows := filepath.Join(dir, s.File), *l.Rows(s.Set)
		if len(rows) == 0 {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("tofu: %w", err)
			}
			continue
		}
		log, err := encodeSet(s.Set, rows)
		if err != nil {
			return fmt.Errorf("tofu: %s: %w", s.File, err)
		}
		if err := writeJSON(path, log); err != nil {
			return err
		}
		if err := all.add(s.File, log); err != nil {
			return fmt.Errorf("tofu: %s: %w", aggregatedFile, err)
		}
	}
	return writeJSON(filepath.Join(dir, aggregatedFile), all.close())
}

// encodeSet returns the log of one set.
func encodeSet(s Set, rows []Row) (json.RawMessage, error) {
	var file object
	for _, key := range logFields {
		if key == "normalized_gt_loss" && s != RealAuthors && s != WorldFacts {
			continue
		}
		var column object
		for i := range rows {
			if v, ok := logValue(key, &rows[i]); ok {
				if err := column.add(strconv.Itoa(rows[i].Index), v); err != nil {
					return nil, err
				}
			}
		}
		if err := file.add(key, column.close()); err != nil {
			return nil, err
		}
	}
	return file.close(), nil
}

func writeJSON(path string, data []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "    "); err != nil {
		return fmt.Errorf("tofu: %s: %w", path, err)
	}
	out.WriteByte('\n')
	err := atomicfile.Write(path, 0o600, func(w io.Writer) error { // it quotes the data
		_, err := out.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("tofu: %w", err)
	}
	return nil
}

// ReadLogs reads what Write, or TOFU's evaluate_util.py, wrote: from a directory
// the four files, or if none of them is there eval_log_aggregated.json; from a
// file, the four logs by file name. At least one set must be there.
//
// Of each log it needs avg_gt_loss, rougeL_recall, avg_paraphrased_loss and
// average_perturb_loss, the last three with all of the items or, where nothing was
// measured, with none; the other keys may be missing. NaN and Infinity, which
// Python writes, are read, and refused in those four, as are losses below 0 and
// recalls outside 0 to 1.
func ReadLogs(path string) (*Logs, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tofu: %w", err)
	}
	l := new(Logs)
	if info.IsDir() {
		found := false
		for _, s := range evalSets {
			file := filepath.Join(path, s.File)
			v, err := readJSON(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if *l.Rows(s.Set), err = readSet(file, v); err != nil {
				return nil, err
			}
			found = true
		}
		if found {
			return l, nil
		}
		if _, err := os.Stat(filepath.Join(path, aggregatedFile)); err != nil {
			var names []string
			for _, s := range evalSets {
				names = append(names, s.File)
			}
			return nil, fmt.Errorf("tofu: %s holds no logs; want at least one of %v, or %s", path, names, aggregatedFile)
		}
		path = filepath.Join(path, aggregatedFile)
	}
	v, err := readJSON(path)
	if err != nil {
		return nil, err
	}
	if err := l.readAggregated(path, v); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Logs) readAggregated(path string, v *jsonValue) error {
	found := false
	for _, s := range evalSets {
		if m := v.member(s.File); m != nil {
			rows, err := readSet(path+": "+s.File, m)
			if err != nil {
				return err
			}
			*l.Rows(s.Set), found = rows, true
		}
	}
	if !found {
		return fmt.Errorf("tofu: %s holds none of the logs by name; want an object like {%q: {…}, …}", path, evalSets[0].File)
	}
	return nil
}

func readJSON(path string) (*jsonValue, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tofu: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("tofu: %s is not a regular file", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tofu: %w", err)
	}
	return parseLog(path, data)
}

func parseLog(name string, data []byte) (*jsonValue, error) {
	r := newJSONReader(name, data)
	r.nonFinite = true
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if r.space(); r.pos < len(r.data) {
		return nil, r.unexpected("nothing after the log")
	}
	if v.kind != jsonObject {
		return nil, r.errorf(v.line, "the log is %s, want an object", v.kind)
	}
	return &v, nil
}

// column is one key of a log: its values by item index.
type column struct {
	name   string // of the file
	key    string
	values map[int]*jsonValue
}

func (c *column) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("tofu: %s:%d: %s: %s", c.name, line, c.key, fmt.Sprintf(format, args...))
}

// readColumn reads an object from index to value, or an array of values.
func readColumn(name string, log *jsonValue, key string, required bool) (*column, error) {
	c := &column{name, key, make(map[int]*jsonValue)}
	m := log.member(key)
	switch {
	case m == nil && required:
		return nil, fmt.Errorf("tofu: %s has no %q", name, key)
	case m == nil:
		return c, nil
	case m.kind != jsonObject && m.kind != jsonArray:
		return nil, c.errorf(m.line, "found %s, want an object from item index to value", m.kind)
	}
	for i := range m.vals {
		index := i
		if m.kind == jsonObject {
			n, err := strconv.Atoi(m.keys[i])
			if err != nil || n < 0 || strconv.Itoa(n) != m.keys[i] {
				return nil, c.errorf(m.vals[i].line, "found a key that is not an item index")
			}
			index = n
		}
		c.values[index] = &m.vals[i]
	}
	return c, nil
}

// number returns a value that lies from 0 to the limit, +Inf excluded.
func (c *column) number(v *jsonValue, index int, limit float64) (float64, error) {
	what := string(v.kind)
	if v.kind == jsonNumber {
		if v.num >= 0 && v.num <= limit && !math.IsInf(v.num, 1) {
			return v.num, nil
		}
		what = fmt.Sprint(v.num)
	}
	want := "a finite number not below 0"
	if !math.IsInf(limit, 1) {
		want = fmt.Sprintf("a number from 0 to %v", limit)
	}
	return 0, c.errorf(v.line, "item %d is %s, want %s", index, what, want)
}

// readSet reads the log of one set.
func readSet(name string, log *jsonValue) ([]Row, error) {
	if log.kind != jsonObject {
		return nil, fmt.Errorf("tofu: %s:%d: the log is %s, want an object", name, log.line, log.kind)
	}
	columns := make(map[string]*column)
	for _, key := range logFields {
		required := key == "avg_gt_loss" || key == "rougeL_recall" || key == "avg_paraphrased_loss" || key == "average_perturb_loss"
		c, err := readColumn(name, log, key, required)
		if err != nil {
			return nil, err
		}
		columns[key] = c
	}
	gt := columns["avg_gt_loss"]
	if len(gt.values) == 0 {
		return nil, fmt.Errorf("tofu: %s: avg_gt_loss holds no items", name)
	}
	indices := slices.Sorted(maps.Keys(gt.values))
	for _, key := range []string{"rouge1_recall", "rougeL_recall", "avg_paraphrased_loss", "average_perturb_loss"} {
		if c := columns[key]; len(c.values) > 0 {
			for _, i := range indices {
				if c.values[i] == nil {
					return nil, fmt.Errorf("tofu: %s: %s has no item %d, but avg_gt_loss has", name, key, i)
				}
			}
			for _, i := range slices.Sorted(maps.Keys(c.values)) {
				if gt.values[i] == nil {
					return nil, fmt.Errorf("tofu: %s: avg_gt_loss has no item %d, but %s has", name, i, key)
				}
			}
		}
	}

	var rows []Row
	for _, index := range indices {
		r := Row{Index: index}
		if err := readRow(columns, &r); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func readRow(columns map[string]*column, r *Row) (err error) {
	// get reads a number up to the limit into x if the key has the item.
	get := func(key string, x *float64, limit float64) bool {
		c := columns[key]
		v := c.values[r.Index]
		if err != nil || v == nil {
			return false
		}
		*x, err = c.number(v, r.Index, limit)
		return err == nil
	}
	// optional reads a number that nothing is computed from.
	optional := func(key string) float64 {
		if v := columns[key].values[r.Index]; v != nil && v.kind == jsonNumber {
			return v.num
		}
		return 0
	}
	get("avg_gt_loss", &r.Answer.Avg, math.Inf(1))
	r.Answer.Sum, r.Answer.N = optional("gt_loss"), int(optional("num_token_gt"))
	var rouge RougeRecall
	if get("rougeL_recall", &rouge.RL, 1) {
		rouge.R1 = math.NaN() // not measured
		get("rouge1_recall", &rouge.R1, 1)
		r.Rouge = &rouge
	}
	var para Loss
	if get("avg_paraphrased_loss", &para.Avg, math.Inf(1)) {
		para.Sum, para.N = optional("paraphrased_loss"), int(optional("num_token_paraphrased"))
		r.Paraphrased = &para
	}
	if v := columns["generated_text"].values[r.Index]; v != nil && len(v.vals) == 3 {
		r.Prompt, r.Generated, r.Reference = v.vals[0].str, v.vals[1].str, v.vals[2].str
	}
	c := columns["average_perturb_loss"]
	v := c.values[r.Index]
	if err != nil || v == nil {
		return err
	}
	if v.kind != jsonArray || len(v.vals) == 0 {
		return c.errorf(v.line, "item %d is %s, want an array of one number for each perturbed answer", r.Index, v.kind)
	}
	element := func(key string, i int) float64 {
		if v := columns[key].values[r.Index]; v != nil && i < len(v.vals) {
			return v.vals[i].num
		}
		return 0
	}
	for i := range v.vals {
		avg, err := c.number(&v.vals[i], r.Index, math.Inf(1))
		if err != nil {
			return err
		}
		r.Perturbed = append(r.Perturbed, Loss{avg, element("perturb_loss", i), int(element("num_token_perturb", i))})
	}
	return nil
}
