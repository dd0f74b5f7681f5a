// Package progress shows on standard error how far long work has come: a bar with
// the time left on a terminal, otherwise a plain line every few seconds.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	// interval is the time between two plain lines, and the time work may take before the first.
	interval = 5 * time.Second
	// patience is the time work may take before it gets a bar.
	patience = 500 * time.Millisecond
)

// Reporter shows one task at a time. Its methods may be called from any goroutine.
type Reporter struct {
	w    io.Writer
	bars bool             // w is a terminal that can move its cursor
	now  func() time.Time // a test's clock

	mu   sync.Mutex
	task *Task
}

// Task is one piece of work with a known number of steps.
type Task struct {
	r       *Reporter
	name    string
	start   time.Time
	printed time.Time // when the last plain line was written

	// state is read by the goroutine that draws, which must not wait for Reporter.mu:
	// whoever holds that may be waiting for the drawing.
	state atomic.Pointer[state]
	bars  *mpb.Progress
	bar   *mpb.Bar
}

// state is how far a task has come.
type state struct {
	done, total int
	note        string
}

// New returns a reporter on w. Bars are drawn only when w is a terminal and TERM is
// not "dumb"; they use no colour, so NO_COLOR has nothing to switch off.
func New(w io.Writer) *Reporter {
	return &Reporter{w: w, bars: canDraw(w), now: time.Now}
}

func canDraw(w io.Writer) bool {
	t := cupwriter.New(w, false)
	if !t.IsTerminal() || os.Getenv("TERM") == "dumb" {
		return false
	}
	width, height, err := t.GetTermSize()
	return err == nil && width > 0 && height > 0
}

// Start begins a task, ending the one before if it still runs.
func (r *Reporter) Start(name string) *Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.task.stop(false)
	now := r.now()
	r.task = &Task{r: r, name: name, start: now, printed: now}
	r.task.state.Store(new(state))
	return r.task
}

// Printf writes one line above the bar, or simply one line.
func (r *Reporter) Printf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := fmt.Sprintf(format, args...) + "\n"
	if r.task != nil && r.task.bars != nil {
		if _, err := r.task.bars.Write([]byte(line)); err == nil {
			return
		}
	}
	io.WriteString(r.w, line)
}

// Stop ends the task that runs, if one does, leaving its bar as it is.
func (r *Reporter) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.task.stop(false)
	r.task = nil
}

// Set says that done of total steps are complete. A task may change its total.
func (t *Task) Set(done, total int) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if t.r.task != t {
		return // another task has begun
	}
	t.state.Store(&state{done, total, t.state.Load().note})
	now := t.r.now()
	if t.r.bars {
		if t.bar != nil || now.Sub(t.start) >= patience {
			t.draw()
		}
		return
	}
	if now.Sub(t.printed) >= interval {
		t.printed = now
		fmt.Fprintf(t.r.w, "%s: %s\n", t.name, t.line(now))
	}
}

// Note sets a short text that stands beside the bar: a loss, a learning rate.
func (t *Task) Note(format string, args ...any) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	st := *t.state.Load()
	st.note = fmt.Sprintf(format, args...)
	t.state.Store(&st)
}

// Done ends the task: its bar stays, full.
func (t *Task) Done() {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if t.r.task == t {
		t.stop(true)
		t.r.task = nil
	}
}

// remaining returns the time left if the steps to come take as long as those done,
// and false while nothing is done.
func (s *state) remaining(elapsed time.Duration) (time.Duration, bool) {
	if s.done <= 0 || s.total <= 0 {
		return 0, false
	}
	return time.Duration(float64(elapsed) / float64(s.done) * float64(s.total-s.done)), true
}

// line is the state in words: 12/60 (20%), 8s, 32s left.
func (t *Task) line(now time.Time) string {
	st, elapsed := t.state.Load(), now.Sub(t.start)
	s := fmt.Sprintf("%d", st.done)
	if st.total > 0 {
		s = fmt.Sprintf("%d/%d (%d%%)", st.done, st.total, 100*st.done/st.total)
	}
	s += ", " + elapsed.Round(time.Second).String()
	if left, ok := st.remaining(elapsed); ok {
		s += ", " + left.Round(time.Second).String() + " left"
	}
	if st.note != "" {
		s += ", " + st.note
	}
	return s
}

// draw moves the bar, making it first if the task has none yet.
func (t *Task) draw() {
	if t.bar == nil {
		t.bars = mpb.New(mpb.WithOutput(t.r.w), mpb.WithAutoRefresh(), mpb.WithWidth(48), mpb.WithRefreshRate(200*time.Millisecond))
		t.bar = t.bars.New(0, mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
			mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-22s ", t.name))),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + t.line(t.r.now()) })))
	}
	// mpb completes a bar when it is full and then refuses to move it; a task whose
	// total grows must stay open, so completion is Done's alone.
	st := t.state.Load()
	t.bar.SetTotal(int64(max(st.total, st.done+1)), false)
	t.bar.SetCurrent(int64(st.done))
}

func (t *Task) stop(complete bool) {
	if t == nil || t.bar == nil {
		return
	}
	if complete {
		st := *t.state.Load()
		st.done = st.total
		t.state.Store(&st)
		t.bar.SetTotal(int64(st.total), true)
	} else {
		t.bar.Abort(false)
	}
	t.bars.Wait()
	t.bar, t.bars = nil, nil
}
