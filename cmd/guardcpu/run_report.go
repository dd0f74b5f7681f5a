package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/report"
	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/tofu"
)

// columns are the models of the summary table.
func (r *run) columns() []column {
	seeds := ""
	if n := len(r.metrics.Seeds); n > 1 {
		seeds = fmt.Sprintf("%d seeds", n)
	}
	cols := []column{{report.Model{Key: "before", Label: "before"}, []*tofu.Metrics{r.metrics.Before}}}
	for _, key := range []string{"baseline", "guard"} {
		c := column{Model: report.Model{Key: key, Label: modelLabel(key, r.o.unlearn.Loss), Note: seeds}}
		for _, s := range r.metrics.Seeds {
			c.metrics = append(c.metrics, map[string]*tofu.Metrics{"baseline": s.Baseline, "guard": s.Guard}[key])
		}
		cols = append(cols, c)
	}
	if r.metrics.GuardFile != nil {
		cols = append(cols, column{report.Model{Key: "guard", Label: "written file", Note: "GUARD, " + seedText(r.o.seedsOf()[:1])}, []*tofu.Metrics{r.metrics.GuardFile}})
	}
	if r.metrics.Gold != nil {
		cols = append(cols, column{report.Model{Key: "gold", Label: "retrained", Note: "never saw the forget set"}, []*tofu.Metrics{r.metrics.Gold}})
	}
	return cols
}

// values returns a metric of the models before, plain, GUARD and retrained.
func (r *run) values(set tofu.Set, metric string) (before, plain, guard, gold report.Value) {
	row := tableRow{set: set, metric: metric}
	for _, c := range r.columns() {
		v := row.of(c)
		switch c.Label {
		case "before":
			before = v
		case modelLabel("baseline", r.o.unlearn.Loss):
			plain = v
		case modelLabel("guard", r.o.unlearn.Loss):
			guard = v
		case "retrained":
			gold = v
		}
	}
	return before, plain, guard, gold
}

// summary says in plain sentences what came out, the verdict first, whatever it is.
func (r *run) summary() []string {
	lines := []string{verdict(sacrificeRows(r.metrics.Seeds), strings.ToUpper(r.o.unlearn.Loss), len(r.metrics.Seeds))}
	for _, set := range []struct {
		set  tofu.Set
		name string
	}{{tofu.Forget, "Forget answers"}, {tofu.Retain, "Retained answers"}} {
		var parts []string
		for _, metric := range [][2]string{{"rougeL_recall", "ROUGE-L"}, {"probability", "probability"}} {
			before, plain, guard, gold := r.values(set.set, metric[0])
			if before.N == 0 {
				continue
			}
			s := fmt.Sprintf("%s %s before, %s plain, %s GUARD", metric[1], report.Number(before.Mean), report.Number(plain.Mean), report.Number(guard.Mean))
			if gold.N > 0 {
				s += fmt.Sprintf(", %s retrained", report.Number(gold.Mean))
			}
			parts = append(parts, s)
		}
		if len(parts) > 0 {
			lines = append(lines, set.name+": "+strings.Join(parts, "; ")+".")
		}
	}
	if before, plain, guard, _ := r.values(tofu.Forget, "probability"); before.N > 0 {
		if s := unequalForgetting(before, plain, guard); s != "" {
			lines = append(lines, s)
		}
	}
	lines = append(lines, r.warnings()...)
	if r.metrics.Gold == nil {
		lines = append(lines, "There is no retrained model to compare with, so no forget quality: use --gold.")
	}
	return lines
}

// warnings say what a reader must not miss: a retain set that is gone, too, and a written file that is not
// what was measured in memory.
func (r *run) warnings() (lines []string) {
	for _, p := range r.paths {
		if collapsed(p.points) {
			lines = append(lines, fmt.Sprintf("Warning: %s: %s (--max-retain-loss).", r.label(p.key, p.seed), retainRose(p.points)))
		}
	}
	memory, file := r.metrics.Guard, r.metrics.GuardFile
	if file == nil {
		return lines
	}
	var parts []string
	for _, row := range tableRows {
		a, b := row.of(column{metrics: []*tofu.Metrics{memory}}), row.of(column{metrics: []*tofu.Metrics{file}})
		if a.N > 0 && b.N > 0 && report.Number(a.Mean) != report.Number(b.Mean) && (row.group == "Forget set" || row.group == "Overall") {
			name := strings.ToLower(row.name)
			if row.group == "Forget set" {
				name = "forget " + strings.Replace(name, "rouge-l", "ROUGE-L", 1)
			}
			parts = append(parts, fmt.Sprintf("%s %s in memory, %s in %s", name, report.Number(a.Mean), report.Number(b.Mean), rundir.Model))
		}
	}
	if len(parts) > 0 {
		lines = append(lines, "Warning: the types of the written file round what was trained, and it measures otherwise: "+strings.Join(parts, "; ")+".")
	}
	return lines
}

// unequalForgetting warns that the rates are of different amounts of forgetting: when the
// forget set's probability after the two methods differs by more than a tenth of what the
// one that forgot more took away, and by more than the spread of the seeds.
func unequalForgetting(before, plain, guard report.Value) string {
	drop := before.Mean - min(plain.Mean, guard.Mean)
	gap := math.Abs(plain.Mean - guard.Mean)
	if drop <= 0 || gap <= 0.1*drop || gap <= max(plain.SD, guard.SD) {
		return ""
	}
	how := "less"
	if guard.Mean < plain.Mean {
		how = "more"
	}
	return fmt.Sprintf("At this learning rate GUARD forgot %s than the plain method (probability %s against %s), and rates depend on how much is forgotten: runs with other values of --lr compare the two at equal forgetting.",
		how, report.Number(guard.Mean), report.Number(plain.Mean))
}

// verdict compares the sacrifice rates of GUARD and of the plain method.
func verdict(rows []report.SacrificeRow, method string, seeds int) string {
	var lower, higher, undefined []string
	for _, row := range rows {
		b, g := row.BaselineValue(), row.GuardValue()
		name := row.Metric
		if !strings.HasPrefix(name, "ROUGE") {
			name = strings.ToLower(name)
		}
		if b.N == 0 || g.N == 0 {
			undefined = append(undefined, name)
			continue
		}
		s := fmt.Sprintf("%s (%s against %s", name, report.Number(g.Mean), report.Number(b.Mean))
		if row.WithinSpread() {
			s += ", within the spread of the seeds"
		}
		s += ")"
		if g.Mean < b.Mean {
			lower = append(lower, s)
		} else {
			higher = append(higher, s)
		}
	}
	var parts []string
	if len(lower) > 0 {
		parts = append(parts, fmt.Sprintf("GUARD sacrificed less than plain %s in %s", method, list(lower)))
	}
	if len(higher) > 0 {
		if len(lower) == 0 {
			parts = append(parts, fmt.Sprintf("GUARD did not sacrifice less than plain %s: not in %s", method, list(higher)))
		} else {
			parts = append(parts, fmt.Sprintf("it did not in %s", list(higher)))
		}
	}
	always := "by both methods"
	if seeds > 1 {
		always += " with every seed"
	}
	if len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("in no metric did the forget set measurably lose knowledge %s, so there is no sacrifice rate to compare", always))
	} else if len(undefined) > 0 {
		parts = append(parts, fmt.Sprintf("in %s the forget set did not measurably lose knowledge %s, so there is no rate to compare", list(undefined), always))
	}
	s := strings.Join(parts, "; ")
	if seeds > 1 && len(lower)+len(higher) > 0 {
		s += fmt.Sprintf(" (means of %d seeds)", seeds)
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// list joins names with commas and a final "and".
func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// report collects what the page shows.
func (r *run) report(took time.Duration) *report.Data {
	o := r.o
	name := o.model
	if name == "" {
		name = "embedded model"
	}
	d := &report.Data{
		Title:    "Unlearning report",
		Subtitle: fmt.Sprintf("%s · %s · %d samples forgotten, %d retained", name, strings.ToUpper(o.unlearn.Loss), len(r.forget), len(r.retain)),
		Created:  r.start, Took: took,
		Evaluated: r.evaluated(), Summary: r.summary(), Texts: o.texts,
	}
	cols := r.columns()
	for _, c := range cols {
		d.Models = append(d.Models, c.Model)
	}
	d.Metrics = metricRows(cols)
	for _, s := range r.metrics.Seeds {
		d.SeedNames = append(d.SeedNames, fmt.Sprint(s.Seed))
	}
	d.Sacrifice = sacrificeRows(r.metrics.Seeds)
	d.Tiles = r.tiles(d.Sacrifice)
	d.Bars = bars(cols)
	d.Paths = r.plots()
	d.Epochs = "Measured on the answers of the sets after every epoch, starting from the model before. Right is remembered, left forgotten; the higher a line stays on its way left, the less is sacrificed."
	s := r.weights.summary
	d.Weighting = []report.Fact{
		{Name: "τ", Value: fmt.Sprintf("%s (%s)", tauText(s.Tau), o.score.tauText)},
		{Name: "scores", Value: fmt.Sprintf("%.3g to %.3g, mean %.3g, standard deviation %.3g", s.Min, s.Max, s.Mean, s.Std)},
		{Name: "weighted mean score", Value: fmt.Sprintf("%.3g", s.WeightedMean)},
		{Name: "effective sample size", Value: fmt.Sprintf("%.1f of %d", s.EffectiveSize, len(r.forget))},
		{Name: "largest weight", Value: fmt.Sprintf("%.2f times the plain one (sample %d)", s.LargestMultiplier, s.LargestSample)},
		{Name: "retain samples in the mean gradient", Value: fmt.Sprintf("%d of %d", r.weights.RetainUsed, r.weights.Retain)},
		{Name: "norm of the mean gradient", Value: fmt.Sprintf("%.3g", r.weights.GradNorm)},
	}
	d.Samples = r.samples()
	d.Options = optionGroups(r.cmd)
	d.Facts = r.facts()
	return d
}

func (r *run) tiles(rows []report.SacrificeRow) []report.Tile {
	var tiles []report.Tile
	tile := func(label string, set tofu.Set, metric string) {
		before, plain, guard, gold := r.values(set, metric)
		if guard.N == 0 {
			return
		}
		note := fmt.Sprintf("%.3f before, %.3f plain", before.Mean, plain.Mean)
		if gold.N > 0 {
			note += fmt.Sprintf(", %.3f retrained", gold.Mean)
		}
		tiles = append(tiles, report.Tile{Label: label, Value: fmt.Sprintf("%.3f", guard.Mean), Note: note})
	}
	tile("Forget ROUGE-L after GUARD", tofu.Forget, "rougeL_recall")
	tile("Retain ROUGE-L after GUARD", tofu.Retain, "rougeL_recall")
	for _, row := range rows {
		b, g := row.BaselineValue(), row.GuardValue()
		if row.Metric != "ROUGE-L" || g.N == 0 {
			continue
		}
		good := 0
		if b.N > 0 && b.Mean != g.Mean && !row.WithinSpread() {
			good = map[bool]int{true: 1, false: -1}[g.Mean < b.Mean]
		}
		tiles = append(tiles, report.Tile{Label: "Sacrifice rate, ROUGE-L", Value: report.Number(g.Mean), Note: "plain " + b.String(), Good: good})
	}
	quality := tableRow{value: func(m *tofu.Metrics) *float64 { return m.ForgetQuality }}
	cols := r.columns()
	if v := quality.of(cols[2]); v.N > 0 {
		tiles = append(tiles, report.Tile{Label: "Forget quality (p-value)", Value: report.Number(v.Mean), Note: fmt.Sprintf("%s before, %s plain", report.Number(quality.of(cols[0]).Mean), report.Number(quality.of(cols[1]).Mean))})
	}
	return tiles
}

// bars makes a plot of each group of the table.
func bars(cols []column) []report.BarPlot {
	cols = slices.DeleteFunc(slices.Clone(cols), func(c column) bool { return c.Label == "written file" })
	var plots []report.BarPlot
	for _, row := range tableRows {
		var values []report.Value
		any := false
		for _, c := range cols {
			v := row.of(c)
			values = append(values, v)
			any = any || v.N > 0
		}
		if !any {
			continue
		}
		if len(plots) == 0 || plots[len(plots)-1].Title != row.group {
			p := report.BarPlot{Title: row.group}
			for _, c := range cols {
				p.Models = append(p.Models, c.Model)
			}
			plots = append(plots, p)
		}
		p := &plots[len(plots)-1]
		p.Categories = append(p.Categories, row.name)
		p.Values = append(p.Values, values)
	}
	return plots
}

// plots draws the paths: retained against forgotten knowledge, and both over the epochs.
func (r *run) plots() []report.Plot {
	if len(r.paths) == 0 {
		return nil
	}
	trade := report.Plot{Title: "Retained against forgotten knowledge", XLabel: "probability of forget answers", YLabel: "probability of retained answers"}
	epochs := report.Plot{Title: "By epoch", XLabel: "epoch", YLabel: "probability of the answers"}
	for _, key := range []string{"baseline", "guard"} {
		var mean [][2]float64
		n := 0
		for _, p := range r.paths {
			if p.key != key {
				continue
			}
			n++
			line := report.Series{Name: key, Class: key, Faint: true}
			for e, q := range p.points {
				if e == len(mean) {
					mean = append(mean, [2]float64{})
				}
				mean[e][0] += q.Forget
				mean[e][1] += q.Retain
				line.Points = append(line.Points, report.Point{X: q.Forget, Y: q.Retain, Text: fmt.Sprintf("%s, seed %d, epoch %d: forget %.3f, retain %.3f", modelLabel(key, ""), p.seed, e, q.Forget, q.Retain)})
			}
			if r.o.seeds > 1 {
				trade.Series = append(trade.Series, line)
			}
		}
		line := report.Series{Name: key, Class: key}
		forget := report.Series{Name: "forget", Class: key + " dashed"}
		retain := report.Series{Name: "retain", Class: key}
		for e, q := range mean {
			f, t := q[0]/float64(n), q[1]/float64(n)
			text := fmt.Sprintf("%s, epoch %d: forget %.3f, retain %.3f", modelLabel(key, ""), e, f, t)
			line.Points = append(line.Points, report.Point{X: f, Y: t, Text: text})
			forget.Points = append(forget.Points, report.Point{X: float64(e), Y: f, Text: text})
			retain.Points = append(retain.Points, report.Point{X: float64(e), Y: t, Text: text})
		}
		trade.Series = append(trade.Series, line)
		epochs.Series = append(epochs.Series, retain, forget)
	}
	mark := func(key, label string) {
		logs := r.logs[key]
		if logs == nil {
			return
		}
		q := report.Point{X: meanProbability(logs.Forget), Y: meanProbability(logs.Retain), Text: label}
		trade.Marks = append(trade.Marks, report.Series{Name: label, Class: key, Points: []report.Point{q}})
	}
	mark("before", "before")
	mark("gold", "retrained")
	return []report.Plot{trade, epochs}
}

func meanProbability(rows []tofu.Row) float64 {
	sum := 0.0
	for i := range rows {
		sum += math.Exp(-rows[i].Answer.Avg)
	}
	return sum / float64(len(rows))
}

// samples joins the scores with what the models answered.
func (r *run) samples() []report.Sample {
	index := indexByQuestion(r.sets.forget, r.eval.Forget)
	rows := func(logs *tofu.Logs) map[int]*tofu.Row {
		m := map[int]*tofu.Row{}
		if logs != nil {
			for i := range logs.Forget {
				m[logs.Forget[i].Index] = &logs.Forget[i]
			}
		}
		return m
	}
	before, plain, guarded := rows(r.logs["before"]), rows(r.first[0]), rows(r.first[1])
	of := func(row *tofu.Row) (prob, rouge float64, text string) {
		prob, rouge = math.NaN(), math.NaN()
		if row == nil {
			return prob, rouge, ""
		}
		prob = math.Exp(-row.Answer.Avg)
		if row.Rouge != nil {
			rouge = row.Rouge.RL
		}
		return prob, rouge, row.Generated
	}
	list := make([]report.Sample, len(r.sets.forget))
	for i, it := range r.sets.forget {
		s := report.Sample{I: i, Line: it.Line, Score: r.weights.Scores[i], StdErr: math.NaN(), Weight: r.weights.mult[i]}
		if r.weights.StdErr != nil {
			s.StdErr = r.weights.StdErr[i]
		}
		if r.o.texts {
			s.Question = it.Question
		}
		k := index[i]
		var text string
		s.ProbBefore, s.RougeLBefore, _ = of(before[k])
		s.ProbBaseline, s.RougeLBaseline, _ = of(plain[k])
		s.ProbGuard, s.RougeLGuard, text = of(guarded[k])
		if r.o.texts {
			s.AnswerGuard = text
		}
		list[i] = s
	}
	return list
}

// optionGroups are all options with their values, by category.
func optionGroups(cmd *cli.Command) []report.OptionGroup {
	var groups []report.OptionGroup
	for _, f := range cmd.Flags {
		name := f.Names()[0]
		if slices.Contains(notInConfig, name) {
			continue
		}
		category := "general"
		if c, ok := f.(cli.CategorizableFlag); ok && c.GetCategory() != "" && c.GetCategory() != "common" {
			category = c.GetCategory()
		}
		k := slices.IndexFunc(groups, func(g report.OptionGroup) bool { return g.Name == category })
		if k < 0 {
			k = len(groups)
			groups = append(groups, report.OptionGroup{Name: category})
		}
		value := fmt.Sprint(cmd.Value(name))
		if value == "" {
			value = "–"
		}
		groups[k].Options = append(groups[k].Options, report.Fact{Name: name, Value: value})
	}
	return groups
}

// facts identify files, program and machine.
func (r *run) facts() []report.Fact {
	m := r.manifest
	var facts []report.Fact
	for _, list := range [][]input{m.Inputs, m.Outputs} {
		for _, in := range list {
			facts = append(facts, report.Fact{Name: in.Role, Value: strings.TrimSpace(fmt.Sprintf("%s sha256 %s, %s", in.Path, in.SHA256, bytesText(uint64(in.Bytes))))})
		}
	}
	tuned := map[bool]string{true: "yes", false: "no"}[r.tuned]
	tuned += fmt.Sprintf("; in the given model the forget answers have a mean probability of %.3f a token", r.knew)
	for _, x := range m.Resumed {
		facts = append(facts, report.Fact{Name: "gone on with", Value: fmt.Sprintf("%s, after %.0f s of work: version %s, %s kernels, %s", x.At.Format(time.DateTime), x.Seconds, x.Version, x.Kernels, plural(x.Threads, "thread"))})
	}
	kept := "removed when the run was complete"
	if r.o.keep {
		kept = "kept in " + rundir.Checkpoints + " (--keep-checkpoints): they hold the weights from before unlearning"
	}
	return append(facts,
		report.Fact{Name: "checkpoints", Value: kept},
		report.Fact{Name: "fine-tuned here", Value: tuned},
		report.Fact{Name: "command", Value: strings.Join(m.Command, " ")},
		report.Fact{Name: "version", Value: strings.TrimSpace(m.Build.Version + " " + m.Build.Commit)},
		report.Fact{Name: "built with", Value: fmt.Sprintf("%s, %s/%s", m.Build.Go, m.Build.OS, m.Build.Arch)},
		report.Fact{Name: "machine", Value: fmt.Sprintf("%s, %d threads, %s kernels, %s", m.CPU, m.Threads, m.Kernels, productsText(m.Compute, m.Int8))},
		report.Fact{Name: "random numbers", Value: seedText(m.Seeds)},
	)
}
