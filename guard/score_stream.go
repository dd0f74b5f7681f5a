package guard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/guardcpu/guardcpu/engine"
)

// StreamOptions say within how much memory attribution works, and how.
type StreamOptions struct {
	// Memory is how many bytes all of it may take, the weights among them; 0: no bound.
	Memory uint64
	// ChunkBlocks is of how many blocks the gradient is in memory at once. 0 leaves it to Memory: all
	// that fits, and where the gradient of the whole model does, no stream.
	ChunkBlocks int
	// SpillDir is a directory for what a stream keeps between two chunks; "" keeps it in memory.
	SpillDir string
	Spill    engine.SpillType
	// SpillKey names the weights of the model, if the stream is to be resumed where SpillDir holds what one that
	// was stopped has left: then RemoveStream clears the directory, when the scores are safe. What else the
	// numbers depend on is added to it.
	SpillKey string
	// Note is told how a stream is resumed. It may be nil.
	Note func(string)
}

func (o *StreamOptions) check() error {
	if o.ChunkBlocks < 0 || o.Spill != engine.SpillBF16 && o.Spill != engine.SpillF32 {
		return fmt.Errorf("guard: chunks of %d blocks, spilled as %q: want at least 0, %s or %s", o.ChunkBlocks, string(o.Spill), engine.SpillBF16, engine.SpillF32)
	}
	return nil
}

// engineBatches are the batches of a scoring as engine.Stream takes them.
func (s *scoring) engineBatches() []engine.StreamBatch {
	batches := make([]engine.StreamBatch, len(s.batches))
	for i, b := range s.batches {
		set := "retain"
		if b.group == engine.Scored {
			set = "forget"
		}
		batches[i] = engine.StreamBatch{Group: b.group, Term: engine.Term{
			Name: fmt.Sprintf("%s samples %d to %d", set, b.first, b.first+len(b.samples)-1), Samples: b.samples,
			Loss: func(t *engine.Trace) ([]int, engine.LossFunc) { return s.loss(t, b) },
		}}
	}
	return batches
}

// engineOptions are those of a stream in chunks of that many blocks.
func (s *scoring) engineOptions(blocks int) engine.StreamOptions {
	return engine.StreamOptions{Shares: s.share, Blocks: blocks, Spill: s.o.Spill, Dir: s.o.SpillDir, Note: s.o.Note}
}

// key is a hash of all that the numbers of a stream depend on.
func (s *scoring) key(blocks int) string {
	h, c := sha256.New(), s.m.Ctx
	fmt.Fprintln(h, s.o.SpillKey, c.K.Name, c.Compute.On(c.K), blocks, s.o.Spill, s.o.TokenLoss, s.share)
	for _, p := range s.m.Trainable() {
		fmt.Fprintln(h, p.Name, p.Rows, p.Cols)
	}
	for _, b := range s.batches {
		fmt.Fprintln(h, b.group, b.first, b.scale, b.samples)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// stream is whole for some blocks at a time.
func (s *scoring) stream(ctx context.Context, a *Attribution, p engine.Progress) ([][]float64, error) {
	o := s.engineOptions(a.Plan.ChunkBlocks)
	o.WeightLimit = a.Plan.WeightLimit
	if s.o.SpillKey != "" {
		o.Key = s.key(o.Blocks)
	}
	res, err := s.m.Stream(ctx, s.engineBatches(), o, p)
	if err != nil {
		return nil, err
	}
	parts := make([][]float64, len(s.share))
	for i, b := range s.batches {
		a.addLosses(b, s.losses(b, res.Losses[i]), len(s.retain))
		for k, scores := range res.Scores[i] {
			parts[k] = append(parts[k], scores...)
		}
	}
	a.GradNorm = res.Norm
	return parts, nil
}
