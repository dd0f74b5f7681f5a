package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/guard"
)

// calibration measures the real work on models of the first block and of the first few: their difference is what
// blocks take, and the rest what the embedding and the output take.
type calibration struct {
	ctx     context.Context
	m       *engine.Model
	samples []engine.Sample // of the work, of which a few are taken

	forwards map[int]speed // by the rows of a measurement
	memory   float64       // seconds for a byte of memory that is new, 0 before it is measured
}

// newMemory returns how long it takes until so many bytes are there: the system gives pages when they are first written to.
func (c *calibration) newMemory(bytes uint64) float64 {
	if c.memory == 0 {
		const size = 64 << 20
		debug.FreeOSMemory()
		b := make([]byte, size)
		start := time.Now()
		for i := 0; i < size; i += 4096 {
			b[i] = 1
		}
		c.memory = time.Since(start).Seconds() / size
	}
	return c.memory * float64(bytes)
}

// writing returns how long it takes to write the model when it has changed: its matrices are compared with the file,
// packed, and written to the disk that dir is on.
func (c *calibration) writing(dir string) (float64, error) {
	p := slices.MaxFunc(c.m.Params(), func(a, b *nn.Param) int { return a.Len() - b.Len() })
	rows := max(1, min(p.Rows, (1<<20)/p.Cols))
	x := make([]float32, rows*p.Cols)
	packing, err := c.measure(func() error {
		for range 2 { // to compare, and to pack
			for r := range rows {
				p.Stored.Unpack(c.m.Ctx.K, x[r*p.Cols:(r+1)*p.Cols], r, 0)
			}
		}
		if p.Stored.Type.Pack == nil {
			return nil
		}
		return p.Stored.Type.Pack(make([]byte, rows*p.Stored.Type.RowBytes(p.Cols)), x)
	})
	if err != nil {
		return 0, err
	}
	const size = 16 << 20
	disk, err := c.measure(func() error {
		f, err := os.CreateTemp(dir, "guardcpu-calibration-*")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		_, err = f.Write(make([]byte, size))
		return errors.Join(err, f.Sync(), f.Close())
	})
	if err != nil {
		return 0, ioError(fmt.Errorf("calibration: %w", err), "use --spill-dir for another place, or --time=false")
	}
	return packing*float64(c.m.NParams())/float64(len(x)) + disk*float64(c.m.File.Size())/size, nil
}

// speed is how long something takes: seconds for a row and for a batch, of a block and of the model's ends.
type speed struct {
	block, ends           float64
	blockBatch, endsBatch float64
}

// seconds returns the time of batches with that many rows together, of which blocks compute all and the ends
// a share of them that is that of the calibration.
func (s *speed) seconds(blocks int, batches, rows float64) float64 {
	l := float64(blocks)
	return rows*(l*s.block+s.ends) + batches*(l*s.blockBatch+s.endsBatch)
}

// calibrationFlops is about what one measurement may take: half a second of two slow cores.
const calibrationFlops = 20e9

// depths returns of how many blocks the two models are. Where the ends are much more work than a block, a difference
// of one block would drown in the noise.
func (c *calibration) depths() []int {
	l := c.m.Config.NLayers
	if l == 1 {
		return []int{1}
	}
	more := int(2 * float64(c.m.OutputWeights()) * float64(l) / c.m.BlockWeights())
	return []int{1, min(l, 1+max(1, min(5, more)))}
}

// split returns what a block and the ends take by what models of the depths take.
func (c *calibration) split(t [2]float64) (block, ends float64) {
	d := c.depths()
	if len(d) == 1 {
		return t[0], 0
	}
	block = max(0, t[1]-t[0]) / float64(d[1]-d[0])
	return block, max(0, t[0]-block)
}

// rows returns how many rows a measurement has: at most as many as a batch of the work, as few as the size of
// the model asks for, and enough for products to be as fast as they get.
func (c *calibration) rows(most int) int {
	return max(1, min(most, max(64, int(calibrationFlops/c.perRow()))))
}

// perRow is the operations of a row of two blocks and the output, forwards and backwards.
func (c *calibration) perRow() float64 {
	return 6 * (2*c.m.BlockWeights()/float64(c.m.Config.NLayers) + float64(c.m.OutputWeights())/2)
}

// take returns samples with at least rows rows in all, and one of them.
func (c *calibration) take(rows int) (many, one []engine.Sample) {
	for n := 0; n < rows; {
		s := c.samples[len(many)%len(c.samples)]
		many, n = append(many, s), n+len(s.IDs)
	}
	return many, many[:1]
}

// measure returns how long f takes, the fastest of as many times as fit into a tenth of a second, and of two if
// that is not too long: other processes may be in the way.
func (c *calibration) measure(f func() error) (float64, error) {
	best, start := math.Inf(1), time.Now()
	for n := 0; n == 0 || time.Since(start) < 100*time.Millisecond || n == 1 && best < 3; n++ {
		if err := c.ctx.Err(); err != nil {
			return 0, err
		}
		t := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		best = min(best, time.Since(t).Seconds())
	}
	return best, nil
}

// fit measures work on samples by models of one and two blocks and on many rows and few. prepare makes the work
// of a model.
func (c *calibration) fit(rows int, prepare func(m *engine.Model) (func(samples []engine.Sample) error, error)) (s speed, err error) {
	defer runtime.GC()
	many, few := c.take(c.rows(rows))
	var t [2][2]float64 // [blocks-1][few, many]
	for k, blocks := range c.depths() {
		m, err := c.m.First(blocks)
		if err != nil {
			return s, err
		}
		work, err := prepare(m)
		if err != nil {
			return s, err
		}
		for i, samples := range [][]engine.Sample{few, many} {
			if t[k][i], err = c.measure(func() error { return work(samples) }); err != nil {
				return s, err
			}
		}
	}
	nFew, nMany := float64(engine.Size(few).Rows), float64(engine.Size(many).Rows)
	line := func(few, many float64) (row, batch float64) { // a row and a batch, through both points
		if nMany <= nFew {
			return many / nMany, 0
		}
		row = max(0, (many-few)/(nMany-nFew))
		return row, max(0, few-row*nFew)
	}
	block, ends := c.split([2]float64{t[0][0], t[1][0]})
	blockMany, endsMany := c.split([2]float64{t[0][1], t[1][1]})
	s.block, s.blockBatch = line(block, blockMany)
	s.ends, s.endsBatch = line(ends, endsMany)
	return s, nil
}

// training measures steps in a mode.
func (c *calibration) training(mode modeOptions, t *trainWork) (speed, error) {
	options := *t.options
	mode.optimizer(mode.mode, &options)
	options.Steps, options.Keep, options.Warmup = 1000, 0, 0
	options.LR = 0 // it is to take as long, not to go anywhere
	return c.fit(t.largest(mode.mode == "fused").Rows, func(m *engine.Model) (func([]engine.Sample) error, error) {
		if err := mode.prepare(m, 0); err != nil {
			return nil, err
		}
		tr, err := engine.NewTrainer(m, options)
		return func(samples []engine.Sample) error {
			_, err := tr.Step([]engine.Term{engine.MeanNLL("calibration", samples)})
			return err
		}, err
	})
}

// forward measures losses without gradients, once for as many rows.
func (c *calibration) forward(rows int) (speed, error) {
	rows = c.rows(rows)
	if s, ok := c.forwards[rows]; ok {
		return s, nil
	}
	s, err := c.fit(rows, func(m *engine.Model) (func([]engine.Sample) error, error) {
		return func(samples []engine.Sample) error {
			_, err := m.NLL(c.ctx, samples, nil)
			return err
		}, nil
	})
	c.forwards[rows] = s
	return s, err
}

// decoding measures one more token of each of some sequences, of which this many have been fed. Rows are
// the sequences, and there is nothing for a batch.
func (c *calibration) decoding(sequences, past int) (s speed, err error) {
	var t [2]float64
	for k, blocks := range c.depths() {
		m, err := c.m.First(blocks)
		if err != nil {
			return s, err
		}
		session := m.NewSession(sequences)
		feed := func(n int) error {
			feeds := make([]engine.Feed, sequences)
			for i := range feeds {
				ids := c.samples[i%len(c.samples)].IDs
				feeds[i].Seq = i
				for len(feeds[i].IDs) < n {
					feeds[i].IDs = append(feeds[i].IDs, ids[len(feeds[i].IDs)%len(ids)])
				}
			}
			_, err := session.Feed(feeds)
			return err
		}
		if err := feed(max(1, past)); err != nil {
			return s, err
		}
		if t[k], err = c.measure(func() error { return feed(1) }); err != nil {
			return s, err
		}
	}
	block, ends := c.split(t)
	return speed{block: block / float64(sequences), ends: ends / float64(sequences)}, nil
}

// attribution returns how long it takes by a plan: the samples of a batch are retained and scored by the first
// blocks, streamed as the plan says, and the operations of all are counted.
func (c *calibration) attribution(mode modeOptions, o guard.ScoreOptions, plan *guard.AttributionPlan) (float64, error) {
	// Every call has new memory, which is to count as little as in the work: several batches, if they take no time.
	rows := c.rows(plan.BatchTokens)
	many, _ := c.take(rows * max(1, min(16, int(calibrationFlops/(float64(rows)*c.perRow())))))
	// A subset makes the groups, whose gradients the forget samples are multiplied with.
	o.RetainSamples, o.Memory, o.SpillKey, o.ChunkBlocks, o.BatchTokens = 0, 0, "", 0, plan.BatchTokens
	if plan.Streamed() {
		o.ChunkBlocks, o.SpillDir = 1, filepath.Join(o.SpillDir, "guardcpu-calibration")
		defer os.RemoveAll(o.SpillDir)
	}
	var t, flops [2]float64
	for k, blocks := range c.depths() {
		m, err := c.m.First(blocks)
		if err != nil {
			return 0, err
		}
		if err := mode.differentiate(m, 0); err != nil {
			return 0, err
		}
		x, err := guard.PlanAttribution(m, many, many, o)
		if err != nil {
			return 0, err
		}
		flops[k] = x.Flops()
		t[k], err = c.measure(func() error {
			_, err := guard.Attribute(c.ctx, m, many, many, o, nil)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	// What L blocks and the ends would take for the samples of the calibration.
	l := float64(c.m.Config.NLayers)
	block, ends := c.split(t)
	blockWork, endsWork := c.split(flops)
	return (l*block + ends) / (l*blockWork + endsWork) * plan.Flops(), nil
}
