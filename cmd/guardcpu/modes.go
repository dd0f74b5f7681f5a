package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
)

// modeNeed is what some work takes in a mode of training.
type modeNeed struct {
	mode string
	most need // of the part that wants the largest budget
}

// needs returns what the work takes in each of the modes, with nothing kept that could be computed again.
// evaluated may be nil.
func (o *modeOptions) needs(m *engine.Model, modes []string, work []*trainWork, evaluated *evaluation) (all []modeNeed, err error) {
	for _, mode := range modes {
		x := modeNeed{mode: mode}
		for _, t := range work {
			n, err := t.need(m, mode, o, 0)
			if err != nil {
				return nil, err
			}
			x.most = larger(x.most, n)
		}
		if evaluated != nil {
			held, err := o.held(m, mode)
			if err != nil {
				return nil, err
			}
			one := evaluation{sizes: evaluated.sizes, batch: 1}
			x.most = larger(x.most, one.need(m, held, mode == "lora"))
		}
		all = append(all, x)
	}
	return all, nil
}

// choose settles the mode of the work, and of each part the optimizer and what its trace keeps: the mode
// asked for, or of auto the first that fits. It refuses what cannot fit, with the smallest
// budget that would do.
func (e *env) choose(m *engine.Model, b *budget, o *modeOptions, work []*trainWork, evaluated *evaluation) error {
	if len(work) == 0 {
		return nil
	}
	modes := trainModes
	if o.mode == "auto" {
		modes = slices.DeleteFunc(slices.Clone(modes), func(mode string) bool { return mode == "fused" && clips(work) })
	}
	if o.mode == "fused" && clips(work) {
		return usageError("--mode fused has neither clipping nor momentum: when the norm of the gradient is known, the weights have changed; set both to 0, or use another mode")
	}
	all, err := o.needs(m, modes, work, evaluated)
	if err != nil {
		return err
	}
	fits := func(x modeNeed) bool { return b.bytes == 0 || x.most.smallest() <= b.bytes }
	if o.mode == "auto" {
		at := slices.IndexFunc(all, fits)
		if at < 0 {
			least := slices.MinFunc(all, func(x, y modeNeed) int { return int(int64(x.most.smallest()) - int64(y.most.smallest())) })
			return b.refusal("training", least.most.smallest(), fmt.Sprintf("use --memory %s (mode %s), or a smaller --batch", sizeText(least.most.smallest()), least.mode))
		}
		var why []string
		for _, x := range all[:at] {
			why = append(why, fmt.Sprintf("%s needs %s", x.mode, bytesText(x.most.smallest())))
		}
		o.mode = all[at].mode
		if at > 0 {
			why[0] += fmt.Sprintf(", %v", b)
		}
		why = append(why, fmt.Sprintf("%s needs %s", o.mode, bytesText(all[at].most.smallest())))
		e.bars.Printf("Mode %s: %s.", o.mode, strings.Join(why, "; "))
	}
	x := all[slices.IndexFunc(all, func(x modeNeed) bool { return x.mode == o.mode })]
	if !fits(x) {
		remedy := "use --memory " + sizeText(x.most.smallest())
		for _, y := range all {
			if fits(y) {
				remedy = fmt.Sprintf("use --mode %s, which needs %s, or more --memory", y.mode, bytesText(y.most.smallest()))
				break
			}
		}
		return b.refusal(o.mode+" training", x.most.smallest(), remedy)
	}
	peak := uint64(0)
	for _, t := range work {
		if changed := o.optimizer(o.mode, t.options); changed != "" {
			e.bars.Printf("%s: %s.", t.name, changed)
		}
		n, err := t.need(m, o.mode, o, 0)
		if err != nil {
			return err
		}
		t.options.Keep = b.keep(m, &n)
		if n, err = t.need(m, o.mode, o, t.options.Keep); err != nil {
			return err
		}
		peak = max(peak, n.within(b))
	}
	o.planned = fmt.Sprintf("%s at the peak of %s training, %s at least", bytesText(peak), o.mode, bytesText(x.most.smallest()))
	if evaluated != nil {
		held, err := o.held(m, o.mode)
		if err != nil {
			return err
		}
		evaluated.fit(m, b, held, o.mode == "lora")
	}
	if o.mode == "lora" && b.bytes > 0 {
		if left := b.bytes - (x.most.smallest() - x.most.least); left < x.most.weights {
			o.weightLimit = left
		}
	}
	return nil
}

// clips says whether a part of the work asks for what fused training has not: the norm of the whole gradient, or momentum.
func clips(work []*trainWork) bool {
	return slices.ContainsFunc(work, func(t *trainWork) bool {
		return t.options.Clip > 0 || t.options.Optimizer == "sgd" && t.options.Momentum != 0
	})
}

// keep is how many bytes a trace may keep so that it need not compute them again: half of what the
// work leaves of the budget, at least one block's.
func (b *budget) keep(m *engine.Model, n *need) int {
	if b.bytes == 0 {
		return engine.DefaultKeep
	}
	return max(1, (int(b.bytes)-int(n.whole()))/2)
}

// optimizer replaces AdamW, the default, where a mode keeps no moments of single weights, and says so.
func (o *modeOptions) optimizer(mode string, t *engine.TrainOptions) string {
	if mode != "fused" || t.Optimizer != "adamw" {
		return ""
	}
	t.Optimizer = "adafactor"
	return "fused training keeps no moments of single weights, so the optimizer is adafactor in place of adamw"
}

// prepare makes the parameters of m trainable in the mode that choose has settled.
func (o *modeOptions) prepare(m *engine.Model, seed uint64) error {
	switch o.mode {
	case "full", "auto":
		m.TrainFull()
	case "fused":
		m.TrainFused(seed)
	default:
		if err := m.TrainLoRA(o.lora(seed)); err != nil {
			return &statusError{status: exitUsage, err: err}
		}
	}
	m.LimitWeights(o.weightLimit)
	return nil
}

// sizeText is a size as --memory takes it, rounded up to a MiB.
func sizeText(n uint64) string { return fmt.Sprintf("%dMiB", (n+1<<20-1)>>20) }
