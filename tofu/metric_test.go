package tofu

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
)

// byHand is a row with round numbers: p = 1/2, paraphrase 1/4, perturbed 1/8 and 1/2.
func byHand() Row {
	return Row{
		Answer:      Loss{Avg: math.Log(2)},
		Paraphrased: &Loss{Avg: math.Log(4)},
		Perturbed:   []Loss{{Avg: math.Log(8)}, {Avg: math.Log(2)}},
		Rouge:       &RougeRecall{R1: 0.75, RL: 0.5},
	}
}

// TestMetricsByHand has one worked example for each metric.
func TestMetricsByHand(t *testing.T) {
	worked := map[Set]map[string]float64{
		// c = exp((ln 8 + ln 2)/2 − ln 4) = 4/4 = 1; r = ((1/8 + 1/2)/2)/(1/4) = 5/4.
		Retain: {"probability": 0.5, "rouge1_recall": 0.75, "rougeL_recall": 0.5, "truth_ratio": 0, "truth_ratio_arith": 0},
		// (1/2)/(1/2 + 1/8 + 1/2) = 4/9.
		RealAuthors: {"probability": 4. / 9, "rouge1_recall": 0.75, "rougeL_recall": 0.5, "truth_ratio": 0, "truth_ratio_arith": 0},
		WorldFacts:  {"probability": 4. / 9, "rouge1_recall": 0.75, "rougeL_recall": 0.5, "truth_ratio": 0, "truth_ratio_arith": 0},
		Forget:      {"probability": 0.5, "rouge1_recall": 0.75, "rougeL_recall": 0.5, "truth_ratio": 1, "truth_ratio_arith": 0.8},
	}
	likely := byHand()
	likely.Paraphrased.Avg = 0 // c = 4, r = 5/16
	workedLikely := map[Set]map[string]float64{
		Retain: {"truth_ratio": 0.75, "truth_ratio_arith": 11. / 16},
		Forget: {"truth_ratio": 0.25, "truth_ratio_arith": 5. / 16},
	}
	unlikely := byHand()
	unlikely.Paraphrased.Avg = math.Log(16) // c = 1/4: the false answers are preferred
	workedUnlikely := map[Set]map[string]float64{Retain: {"truth_ratio": 0}, Forget: {"truth_ratio": 0.25}}

	rows, seen := byHand(), 0
	for i := range MetricTable {
		m := &MetricTable[i]
		for _, c := range []struct {
			row  *Row
			want map[Set]map[string]float64
		}{{&rows, worked}, {&likely, workedLikely}, {&unlikely, workedUnlikely}} {
			want, ok := c.want[m.Set][m.Name]
			if !ok {
				continue
			}
			got, ok := m.Item(c.row)
			assert.True(t, ok)
			assert.InDelta(t, want, got, 1e-15, "%s %s", m.Set, m.Name)
			seen++
		}
	}
	assert.Equal(t, 20+4+2, seen)
}

// TestMetricsOverflow: losses that no exponential holds still give finite metrics.
func TestMetricsOverflow(t *testing.T) {
	for _, x := range []float64{0, 1e4} {
		for _, y := range []float64{0, 1e4} {
			for _, z := range []float64{0, 1e4} {
				r := Row{Answer: Loss{Avg: x}, Paraphrased: &Loss{Avg: y}, Perturbed: []Loss{{Avg: z}, {Avg: z}}}
				for i := range MetricTable {
					if v, ok := MetricTable[i].Item(&r); ok {
						assert.True(t, v >= 0 && v <= 1, "%s of %v %v %v is %v", MetricTable[i].Name, x, y, z, v)
					}
				}
			}
		}
	}
}

func TestModelUtilityByHand(t *testing.T) {
	row := byHand()
	row.Paraphrased.Avg = 0 // truth ratio 3/4
	l := &Logs{Retain: []Row{row}, RealAuthors: []Row{row}, WorldFacts: []Row{row}}
	m, err := l.Metrics(nil)
	require.NoError(t, err)
	// probabilities 1/2, 4/9, 4/9; ROUGE-L 1/2 thrice; truth ratios 3/4 thrice.
	assert.InDelta(t, 9/(2+9./4*2+2*3+4./3*3), *m.ModelUtility, 1e-15)
	assert.Nil(t, m.ForgetQuality)
	assert.Equal(t, "there are no logs of a retain model to compare with", m.ForgetQualityReason)

	l.Retain[0].Rouge = &RougeRecall{}
	m, err = l.Metrics(nil)
	require.NoError(t, err)
	assert.Equal(t, 0.0, *m.ModelUtility, "one of the nine is 0")

	l.WorldFacts, l.Retain[0].Rouge = nil, nil
	m, err = l.Metrics(l)
	require.NoError(t, err)
	assert.Nil(t, m.ModelUtility)
	assert.Equal(t, "not measured: rougeL_recall of retain, probability of world_facts, rougeL_recall of world_facts, truth_ratio of world_facts", m.ModelUtilityReason)
	assert.Equal(t, "there is no log of a forget set", m.ForgetQualityReason)
}

func TestMetricsErrors(t *testing.T) {
	l := &Logs{Retain: []Row{byHand(), {Index: 1}}}
	_, err := l.Metrics(nil)
	assert.EqualError(t, err, "tofu: rouge1_recall is there for 1 of 2 items of retain, want all or none")
	l = &Logs{Forget: []Row{{Index: 7, Answer: Loss{Avg: math.NaN()}}}}
	_, err = l.Metrics(nil)
	assert.EqualError(t, err, "tofu: probability of forget item 7 is NaN")
}

func TestForgetQuality(t *testing.T) {
	with := func(para ...float64) *Logs {
		l := new(Logs)
		for i, p := range para {
			r := byHand()
			r.Index, r.Paraphrased = i, &Loss{Avg: p}
			l.Forget = append(l.Forget, r)
		}
		return l
	}
	m, err := with(1, 2).Metrics(with(3))
	require.NoError(t, err)
	assert.InDelta(t, 2./3, *m.ForgetQuality, 1e-15, "as in TestKSByHand")
	assert.Equal(t, 1.0, *m.KSForget)
	assert.Equal(t, []string{"forget_quality compares different items: the forget sets of this model (2) and of the retain model (1) are not the same"}, m.Notes)

	m, err = with(1, 2).Metrics(with(2, 1))
	require.NoError(t, err)
	assert.Equal(t, 1.0, *m.ForgetQuality)
	assert.Empty(t, m.Notes)

	bare := &Logs{Forget: []Row{{}}}
	m, err = with(1).Metrics(bare)
	require.NoError(t, err)
	assert.Nil(t, m.ForgetQuality)
	assert.Equal(t, "the retain model: the forget set was measured without paraphrased or perturbed answers", m.ForgetQualityReason)
}

func TestMetricsJSON(t *testing.T) {
	row := byHand()
	m, err := (&Logs{Retain: []Row{row}}).Metrics(nil)
	require.NoError(t, err)
	got, err := json.Marshal(map[string]*Metrics{"before": m})
	require.NoError(t, err)
	assert.Equal(t, `{"before":{"model_utility":null,"model_utility_reason":"not measured: probability of real_authors, rougeL_recall of real_authors, truth_ratio of real_authors, probability of world_facts, rougeL_recall of world_facts, truth_ratio of world_facts",`+
		`"forget_quality":null,"forget_quality_reason":"there are no logs of a retain model to compare with",`+
		`"retain":{"items":1,"probability":0.5,"rouge1_recall":0.75,"rougeL_recall":0.5,"truth_ratio":0,"truth_ratio_arith":0},`+
		`"Prob. Retain":0.5,"ROUGE Retain":0.5,"Truth Ratio Retain":0}}`, string(got))

	m, err = (&Logs{Retain: []Row{row}, RealAuthors: []Row{row}, WorldFacts: []Row{row}, Forget: []Row{row}}).Metrics(&Logs{Forget: []Row{row, row}})
	require.NoError(t, err)
	got, err = json.Marshal(m)
	require.NoError(t, err)
	var back map[string]any
	require.NoError(t, json.Unmarshal(got, &back))
	for _, key := range []string{"model_utility", "forget_quality", "model_utility_arith", "retain", "real_authors", "world_facts", "forget",
		"Prob. Retain", "ROUGE Retain", "Truth Ratio Retain", "Prob. Real Authors", "ROUGE Real Authors", "Truth Ratio Real Authors",
		"Prob. Real World", "ROUGE Real World", "Truth Ratio Real World", "Prob. Forget", "ROUGE Forget", "Truth Ratio Forget",
		"Model Utility", "Forget Quality", "KS Test PVal Forget", "KS Test Forget", "notes"} {
		assert.Contains(t, back, key)
	}
	assert.Len(t, back, 24)
}

// referenceRuns reads the eight runs of aggregates/runs.jsonl as logs.
func referenceRuns(t *testing.T) map[string]*Logs {
	logs := make(map[string]*Logs)
	n := eachLine(t, enginetest.Shared(t, "tofu", "aggregates", "runs.jsonl"), func(line string) {
		var run struct {
			Run  string
			Rows [2]int `json:"forget_rows"`
			Sets map[Set]struct {
				GT     []float64   `json:"avg_gt_loss"`
				RougeL []float64   `json:"rougeL_recall"`
				Para   []float64   `json:"avg_paraphrased_loss"`
				Pert   [][]float64 `json:"average_perturb_loss"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(line), &run))
		l := new(Logs)
		require.Len(t, run.Sets, 4)
		for set, s := range run.Sets {
			for i := range s.GT {
				r := Row{Index: i, Answer: Loss{Avg: s.GT[i]}, Paraphrased: &Loss{Avg: s.Para[i]}, Rouge: &RougeRecall{math.NaN(), s.RougeL[i]}}
				if set == Forget {
					r.Index += run.Rows[0] // the row of the full set
				}
				for _, p := range s.Pert[i] {
					r.Perturbed = append(r.Perturbed, Loss{Avg: p})
				}
				*l.Rows(set) = append(*l.Rows(set), r)
			}
		}
		logs[run.Run] = l
	})
	require.Equal(t, 8, n)
	return logs
}

// TestAggregatesOfReference recomputes every number of aggregates/expected.json.
func TestAggregatesOfReference(t *testing.T) {
	runs := referenceRuns(t)
	raw, err := os.ReadFile(enginetest.Shared(t, "tofu", "aggregates", "expected.json"))
	require.NoError(t, err)
	var want struct {
		PerRun        map[string]map[string]json.RawMessage `json:"per_run"`
		ForgetQuality []struct {
			Unlearned, Reference string
			RowsU                [2]int `json:"rows_unlearned"`
			RowsR                [2]int `json:"rows_reference"`
			N1, N2               int
			D                    float64 `json:"ks_statistic"`
			P                    float64 `json:"p_value"`
		} `json:"forget_quality"`
	}
	require.NoError(t, json.Unmarshal(raw, &want))
	require.Len(t, want.PerRun, 8)
	checked := 0
	for run, sets := range want.PerRun {
		m, err := runs[run].Metrics(nil)
		require.NoError(t, err)
		for key, raw := range sets {
			switch key {
			case "model_utility", "model_utility_arith":
				var x float64
				require.NoError(t, json.Unmarshal(raw, &x))
				got := m.ModelUtility
				if key == "model_utility_arith" {
					got = m.ModelUtilityArith
				}
				relative(t, x, *got, 1e-12, run, key)
				checked++
			default:
				var values map[string]float64
				require.NoError(t, json.Unmarshal(raw, &values))
				for name, x := range values {
					got, ok := m.Get(Set(key), name)
					assert.True(t, ok, "%s %s %s", run, key, name)
					relative(t, x, got, 1e-12, run, key, name)
					checked++
				}
			}
		}
	}
	assert.Equal(t, 8*(4*4+2), checked)

	require.Len(t, want.ForgetQuality, 11)
	part := func(run string, rows [2]int) *Logs {
		l := new(Logs)
		for _, r := range runs[run].Forget {
			if r.Index >= rows[0] && r.Index < rows[1] {
				l.Forget = append(l.Forget, r)
			}
		}
		return l
	}
	for _, c := range want.ForgetQuality {
		a, b := part(c.Unlearned, c.RowsU), part(c.Reference, c.RowsR)
		require.Len(t, a.Forget, c.N1)
		require.Len(t, b.Forget, c.N2)
		m, err := a.Metrics(b)
		require.NoError(t, err)
		relative(t, c.D, *m.KSForget, 1e-12, c)
		relative(t, c.P, *m.ForgetQuality, 1e-12, c)
	}
}
