package tofu

import (
	"fmt"
	"slices"
	"strings"
)

// Value is a metric of one model.
type Value struct {
	Metric *Metric
	Mean   float64   // over the items
	Items  []float64 // by item, in the order of Index
	Index  []int     // of the items
}

// Metrics are the numbers of one model. What could not be computed is absent: a
// metric is not in Values, and a pointer is nil, with the reason beside it.
type Metrics struct {
	Values []Value // in the order of MetricTable

	ModelUtility       *float64
	ModelUtilityArith  *float64 // with the truth ratios of TOFU's utils.py
	ModelUtilityReason string

	ForgetQuality       *float64
	KSForget            *float64 // the statistic of the same test
	ForgetQualityReason string

	Notes []string // what a reader of the numbers should know
}

// Get returns the mean of a metric, or false if it was not measured.
func (m *Metrics) Get(s Set, name string) (float64, bool) {
	if v := m.value(s, name); v != nil {
		return v.Mean, true
	}
	return 0, false
}

func (m *Metrics) value(s Set, name string) *Value {
	for i := range m.Values {
		if v := &m.Values[i]; v.Metric.Set == s && v.Metric.Name == name {
			return v
		}
	}
	return nil
}

// Metrics computes all metrics of the logs, with the formulas of TOFU's
// aggregate_eval_stat.py:
//
//	model utility  = 9 / Σ 1/v over probability, ROUGE-L recall and truth ratio of
//	                 retain, real_authors and world_facts; 0 if one of them is 0;
//	                 only if all nine exist
//	forget quality = p-value of KS2Sample between the truth ratios c of the forget
//	                 set and those of the retain model, one that never saw the forget
//	                 set; only if its logs are given (else nil)
//
// The error says that a log holds a row that cannot be used.
func (l *Logs) Metrics(retain *Logs) (*Metrics, error) {
	m := new(Metrics)
	for i := range MetricTable {
		metric := &MetricTable[i]
		rows := *l.Rows(metric.Set)
		v := Value{Metric: metric}
		for j := range rows {
			x, ok := metric.Item(&rows[j])
			if !ok {
				continue
			}
			if number(x) == nil {
				return nil, fmt.Errorf("tofu: %s of %s item %d is %v", metric.Name, metric.Set, rows[j].Index, x)
			}
			v.Items = append(v.Items, x)
			v.Index = append(v.Index, rows[j].Index)
			v.Mean += x
		}
		if len(v.Items) == 0 {
			continue
		}
		if len(v.Items) != len(rows) {
			return nil, fmt.Errorf("tofu: %s is there for %d of %d items of %s, want all or none", metric.Name, len(v.Items), len(rows), metric.Set)
		}
		v.Mean /= float64(len(v.Items))
		m.Values = append(m.Values, v)
	}
	m.modelUtility()
	m.forgetQuality(l, retain)
	return m, nil
}

func (m *Metrics) modelUtility() {
	var plain, arith []float64
	var missing []string
	for i := range MetricTable {
		metric := &MetricTable[i]
		if !metric.Utility {
			continue
		}
		x, ok := m.Get(metric.Set, metric.Name)
		if !ok {
			missing = append(missing, fmt.Sprintf("%s of %s", metric.Name, metric.Set))
			continue
		}
		plain = append(plain, x)
		if a, ok := m.Get(metric.Set, metric.Name+"_arith"); ok {
			x = a
		}
		arith = append(arith, x)
	}
	if len(missing) > 0 {
		m.ModelUtilityReason = "not measured: " + strings.Join(missing, ", ")
		return
	}
	m.ModelUtility, m.ModelUtilityArith = harmonicMean(plain), harmonicMean(arith)
}

// harmonicMean is n/Σ(1/x), and 0 if one of the values is 0.
func harmonicMean(x []float64) *float64 {
	s := 0.0
	for _, v := range x {
		s += 1 / v // +Inf at 0
	}
	h := float64(len(x)) / s
	return &h
}

func (m *Metrics) forgetQuality(l, retain *Logs) {
	if retain == nil {
		m.ForgetQualityReason = "there are no logs of a retain model to compare with"
		return
	}
	own, ownReason := truthRatios(l)
	other, otherReason := truthRatios(retain)
	switch {
	case ownReason != "":
		m.ForgetQualityReason = ownReason
		return
	case otherReason != "":
		m.ForgetQualityReason = "the retain model: " + otherReason
		return
	}
	d, p := KS2Sample(own, other)
	m.ForgetQuality, m.KSForget = &p, &d
	if !slices.EqualFunc(l.Forget, retain.Forget, func(a, b Row) bool {
		return a.Index == b.Index && (a.Reference == "" || b.Reference == "" || a.Reference == b.Reference)
	}) {
		m.Notes = append(m.Notes, fmt.Sprintf(
			"forget_quality compares different items: the forget sets of this model (%d) and of the retain model (%d) are not the same",
			len(l.Forget), len(retain.Forget)))
	}
}

// truthRatios returns ln c of the forget set, or why there is none. The logarithm
// is monotone, which leaves the test as it is, and does not overflow.
func truthRatios(l *Logs) (c []float64, reason string) {
	if len(l.Forget) == 0 {
		return nil, "there is no log of a forget set"
	}
	for i := range l.Forget {
		x, ok := logTruthRatio(&l.Forget[i])
		if !ok {
			return nil, "the forget set was measured without paraphrased or perturbed answers"
		}
		c = append(c, x)
	}
	return c, ""
}

// MarshalJSON writes one object:
//
//	model_utility, forget_quality            numbers, or null, and then
//	model_utility_reason, …_reason           say why
//	model_utility_arith                      if it exists
//	retain, real_authors, world_facts, forget
//	                                         for each set evaluated: items, and its
//	                                         metrics by name (probability, …)
//	"Prob. Retain", …, "Model Utility", "Forget Quality", "KS Test PVal Forget",
//	"KS Test Forget"                         the same numbers under TOFU's names
//	notes                                    if there are any
func (m Metrics) MarshalJSON() ([]byte, error) {
	var o object
	var err error
	add := func(key string, value any) {
		if err == nil {
			err = o.add(key, value)
		}
	}
	result := func(key string, x *float64, reason string) {
		add(key, x)
		if x == nil {
			add(key+"_reason", reason)
		}
	}
	optional := func(key string, x *float64) {
		if x != nil {
			add(key, *x)
		}
	}
	result("model_utility", m.ModelUtility, m.ModelUtilityReason)
	result("forget_quality", m.ForgetQuality, m.ForgetQualityReason)
	optional("model_utility_arith", m.ModelUtilityArith)
	for _, s := range evalSets {
		var set object
		for i := range m.Values {
			if v := &m.Values[i]; v.Metric.Set == s.Set {
				if set.Len() == 0 {
					if err := set.add("items", len(v.Items)); err != nil {
						return nil, err
					}
				}
				if err := set.add(v.Metric.Name, v.Mean); err != nil {
					return nil, err
				}
			}
		}
		if set.Len() > 0 {
			add(string(s.Set), set.close())
		}
	}
	for i := range m.Values {
		if v := &m.Values[i]; v.Metric.TOFU != "" {
			add(v.Metric.TOFU, v.Mean)
		}
	}
	optional("Model Utility", m.ModelUtility)
	optional("Forget Quality", m.ForgetQuality)
	optional("KS Test PVal Forget", m.ForgetQuality)
	optional("KS Test Forget", m.KSForget)
	if len(m.Notes) > 0 {
		add("notes", m.Notes)
	}
	return o.close(), err
}
