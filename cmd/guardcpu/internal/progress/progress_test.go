package progress

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// plain returns a reporter on a buffer whose clock the test turns.
func plain() (*Reporter, *bytes.Buffer, *time.Time) {
	var out bytes.Buffer
	now := time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	r := New(&out)
	r.now = func() time.Time { return now }
	return r, &out, &now
}

func TestPlainLines(t *testing.T) {
	r, out, now := plain()
	task := r.Start("unlearn")
	for i := range 60 {
		*now = now.Add(time.Second)
		task.Note("loss %.1f", 1.5)
		task.Set(i+1, 60)
	}
	task.Done()
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	assert.Len(t, lines, 12, "one line every five seconds")
	assert.Equal(t, "unlearn: 5/60 (8%), 5s, 55s left, loss 1.5", string(lines[0]))
	assert.NotContains(t, out.String(), "\x1b", "no escape sequences where there is no terminal")
}

func TestShortWorkIsSilent(t *testing.T) {
	r, out, now := plain()
	task := r.Start("load")
	*now = now.Add(time.Second)
	task.Set(1, 1)
	task.Done()
	assert.Empty(t, out.String())
}

func TestRemaining(t *testing.T) {
	_, ok := (&state{}).remaining(time.Second)
	assert.False(t, ok, "nothing is known before the first step")
	left, ok := (&state{done: 5, total: 20}).remaining(10 * time.Second)
	assert.True(t, ok)
	assert.Equal(t, 30*time.Second, left)
}

func TestStaleTaskIsIgnored(t *testing.T) {
	r, out, now := plain()
	old := r.Start("first")
	r.Start("second")
	*now = now.Add(time.Minute)
	old.Set(1, 2)
	old.Done()
	assert.Empty(t, out.String())
}

// Bars are drawn with a forced terminal so that drawing, changing totals and ending
// are exercised under the race detector too.
func TestBarDoesNotBlock(t *testing.T) {
	var out bytes.Buffer
	r := New(&out)
	r.bars = true
	start := time.Now()
	r.now = func() time.Time { start = start.Add(patience); return start }
	task := r.Start("bar")
	for i := range 10 {
		task.Set(i, 5+i)
		r.Printf("line %d", i)
	}
	task.Done()
	r.Start("aborted").Set(1, 3)
	r.Stop()
}
