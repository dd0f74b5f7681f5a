package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/progress"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/tofu"
)

// modeFixture is a model with work that wants much memory for its batch: a fine-tuning and an evaluation.
func modeFixture(t *testing.T) (*engine.Model, []*trainWork, *evaluation) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	var samples []engine.Sample
	for i := range 40 {
		s := engine.Sample{IDs: make([]int32, 20+i%7), Mask: make([]bool, 20+i%7)}
		for k := range s.Mask {
			s.Mask[k] = k > 10
		}
		samples = append(samples, s)
	}
	o := engine.DefaultFinetuneOptions()
	work := finetuning("fine-tuning", &o, samples)
	v := &evaluation{sizes: []tofu.EvalSize{{Samples: samples, Batches: []tofu.GenSize{{Prompts: []int{10, 12, 14}, Answers: []int{3, 4, 5}, Most: 100}}}}, batch: 3}
	return m, []*trainWork{work}, v
}

func modeEnv() (*env, *bytes.Buffer) {
	var out bytes.Buffer
	return &env{stderr: &out, stdout: &out, bars: progress.New(&out)}, &out
}

// The smallest budget that a refusal names does, and one of a hundredth less does not.
func TestSmallestBudget(t *testing.T) {
	m, work, v := modeFixture(t)
	o := modeOptions{rank: 2, alpha: 4, loraTargets: []string{"blk.*.weight"}}
	all, err := o.needs(m, trainModes, work, v)
	require.NoError(t, err)
	for _, x := range all {
		o.mode = x.mode
		e, _ := modeEnv()
		least := x.most.smallest()
		require.NoError(t, e.choose(m, &budget{limit{bytes: least, from: "--memory"}}, &o, work, v), x.mode)
		err := e.choose(m, &budget{limit{bytes: least - least/100, from: "cgroup"}}, &o, work, v)
		require.ErrorContains(t, err, x.mode+" training needs "+bytesText(least), x.mode)
		assert.ErrorContains(t, err, "allowed (cgroup); use --m", x.mode)
	}
}

// auto takes the first mode that fits and says why, and where none does, names the smallest budget of all.
func TestModeAuto(t *testing.T) {
	m, work, v := modeFixture(t)
	o := modeOptions{rank: 2, alpha: 4, loraTargets: []string{"blk.*.weight"}}
	all, err := o.needs(m, trainModes, work, v)
	require.NoError(t, err)
	least := all[0].most.smallest()
	for i, x := range all {
		o.mode = "auto"
		e, out := modeEnv()
		n := x.most.smallest()
		first := i
		for k := range i {
			if all[k].most.smallest() <= n {
				first = k
				break
			}
		}
		work[0].options.Optimizer = "adamw"
		require.NoError(t, e.choose(m, &budget{limit{bytes: n, from: "machine"}}, &o, work, v))
		assert.Equal(t, trainModes[first], o.mode)
		assert.Contains(t, out.String(), "Mode "+o.mode+": full needs")
		if o.mode == "fused" {
			assert.Equal(t, "adafactor", work[0].options.Optimizer)
			assert.Contains(t, out.String(), "adafactor in place of adamw")
		}
		least = min(least, n)
	}
	o.mode = "auto"
	e, _ := modeEnv()
	err = e.choose(m, &budget{limit{bytes: least - 1, from: "machine"}}, &o, work, v)
	assert.ErrorContains(t, err, "training needs "+bytesText(least))

	// What fused training cannot do is done by another mode.
	work[0].options.Clip = 1
	o.mode = "auto"
	require.NoError(t, e.choose(m, &budget{limit{bytes: all[2].most.smallest(), from: "machine"}}, &o, work, v))
	assert.Equal(t, "lora", o.mode)
	o.mode = "fused"
	err = e.choose(m, &budget{}, &o, work, v)
	assert.ErrorContains(t, err, "--mode fused has neither clipping nor momentum")
}

// With more memory a trace keeps more, and what is said of its size stays within the budget.
func TestKeepStaysWithinTheBudget(t *testing.T) {
	m, work, v := modeFixture(t)
	o := modeOptions{mode: "full", rank: 2, alpha: 4, loraTargets: []string{"blk.*.weight"}}
	all, err := o.needs(m, trainModes[:1], work, v)
	require.NoError(t, err)
	for extra := uint64(0); extra < 8<<20; extra += 100 << 10 {
		b := budget{limit{bytes: all[0].most.smallest() + extra, from: "--memory"}}
		e, _ := modeEnv()
		require.NoError(t, e.choose(m, &b, &o, work, v))
		n, err := work[0].need(m, "full", &o, work[0].options.Keep)
		require.NoError(t, err)
		assert.LessOrEqual(t, n.smallest(), b.bytes)
	}
}
