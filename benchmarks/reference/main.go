// Command reference measures what the forms of KM's reference lose (engine.ReferenceForm).
//
//	go run ./benchmarks/reference MODEL.gguf
//
// The model writes texts of its own (temperature 1, seeded). It unlearns the first of them by gradient ascent,
// a few steps of AdamW, and then the mean divergence from the model before over the others, and its
// gradient, are computed with each form. bytes are those of a position; KL is in nats and its error relative to
// the exact one; off is the distance of the gradient from the exact one by its norm, cosine that of the angle between the two.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/guard"
)

type options struct {
	steps, forget, retain, length int
	lr                            float64
}

func main() {
	var o options
	flag.IntVar(&o.steps, "steps", 4, "steps of unlearning")
	flag.IntVar(&o.forget, "forget", 8, "texts to forget")
	flag.IntVar(&o.retain, "retain", 8, "texts over which the divergence is taken")
	flag.IntVar(&o.length, "length", 64, "tokens of a text")
	flag.Float64Var(&o.lr, "lr", 2e-5, "learning rate")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("reference: want one MODEL.gguf")
	}
	if err := o.run(context.Background(), flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

func (o *options) run(ctx context.Context, path string) error {
	before, err := engine.Open(path, engine.Options{Compute: nn.ComputeF32})
	if err != nil {
		return err
	}
	defer before.Close()
	m, err := engine.Open(path, engine.Options{Compute: nn.ComputeF32})
	if err != nil {
		return err
	}
	defer m.Close()
	texts, err := o.texts(ctx, before)
	if err != nil {
		return err
	}
	forget, retain := texts[:o.forget], texts[o.forget:]
	m.TrainFull()
	u := guard.DefaultOptions()
	u.Loss, u.LR, u.Batch, u.Epochs, u.Warmup, u.Schedule = "ga", o.lr, o.forget, float64(o.steps), 0, "constant"
	if _, err := guard.Unlearn(ctx, m, guard.Data{Forget: forget}, u, guard.Hooks{}); err != nil {
		return err
	}
	exact, g, err := divergence(ctx, m, before, retain, engine.ReferenceHidden)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s: %d tokens, %d positions, KL %.6f nats after %d steps of %g\n", filepath.Base(path), m.Config.NVocab, o.retain*o.length, exact, o.steps, o.lr)
	fmt.Printf("%-10s %8s %12s %10s %10s %12s\n", "form", "bytes", "KL", "error", "off", "1-cosine")
	for _, form := range []engine.ReferenceForm{"topk:4", "topk:16", "topk:64", "topk:256", "topk:1024", engine.ReferenceHidden16, engine.ReferenceHidden} {
		kl, h, err := divergence(ctx, m, before, retain, form)
		if err != nil {
			return err
		}
		off, angle := compare(g, h)
		fmt.Printf("%-10s %8d %12.6f %10.1e %10.1e %12.1e\n", form, form.Bytes(&m.Config), kl, math.Abs(kl-exact)/exact, off, angle)
	}
	return nil
}

// texts are what the model writes.
func (o *options) texts(ctx context.Context, m *engine.Model) (texts []engine.Sample, err error) {
	bos := int32(1)
	if m.Tokenizer != nil {
		if id, ok := m.Tokenizer.BOS(); ok {
			bos = id
		}
	}
	prompts := make([][]int32, o.forget+o.retain)
	for i := range prompts {
		prompts[i] = []int32{bos}
	}
	out, err := m.Generate(ctx, prompts, engine.GenOptions{MaxTokens: o.length - 1, Temp: 1, TopP: 1, Repeat: 1, Seed: 42, IgnoreEOS: true}, nil)
	for _, ids := range out {
		s := engine.Sample{IDs: append([]int32{bos}, ids...), Mask: make([]bool, 1+len(ids))}
		for i := range ids {
			s.Mask[1+i] = true
		}
		texts = append(texts, s)
	}
	return texts, err
}

// divergence is the mean KL(before ‖ m) over all positions with a reference in that form, and its gradient.
func divergence(ctx context.Context, m, before *engine.Model, samples []engine.Sample, form engine.ReferenceForm) (float64, *engine.Grads, error) {
	r, err := before.NewReference(ctx, samples, engine.ReferenceOptions{Form: form})
	if err != nil {
		return 0, nil, err
	}
	defer r.Close()
	t := m.NewTrace()
	t.Forward(samples)
	var rows []int
	var at []engine.Place
	for s := range samples {
		for pos := range samples[s].IDs {
			rows, at = append(rows, t.Start(s)+pos), append(at, engine.Place{Sample: s, Pos: pos})
		}
	}
	g := engine.NewGrads(m)
	losses := t.Backward(rows, func(c *engine.Chunk) {
		kl, e := r.Divergence(c.Ctx, at[c.First:c.First+len(c.Rows)])
		if e != nil {
			err = e
			return
		}
		c.Each(func(i int, logits []float32) float64 { return kl(i-c.First, logits, 1/float32(len(rows))) })
	}, engine.NewAccumulate(g))
	sum := 0.0
	for _, l := range losses {
		sum += l
	}
	return sum / float64(len(rows)), g, err
}

// compare returns ‖h − g‖/‖g‖, and 1 less the cosine between the two.
func compare(g, h *engine.Grads) (off, angle float64) {
	var gg, hh, dd float64
	for i, p := range g.Params() {
		x, y := g.Of(p), h.Of(h.Params()[i])
		for j := range x {
			a, b := float64(x[j]), float64(y[j])
			gg, hh, dd = gg+a*a, hh+b*b, dd+(a-b)*(a-b)
		}
	}
	u, v := math.Sqrt(gg), math.Sqrt(hh)
	return math.Sqrt(dd / gg), (dd - (u-v)*(u-v)) / (2 * u * v) // |h−g|² = (|g|−|h|)² + 2|g||h|(1−cos)
}
