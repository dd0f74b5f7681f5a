package engine_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
)

// stopsAfter is a context that is cancelled after it has been asked some times.
type stopsAfter struct {
	context.Context
	times int
}

func (c *stopsAfter) Err() error {
	if c.times--; c.times < 0 {
		return context.Canceled
	}
	return nil
}

// A long prompt ends between two blocks when it is told to, and the session goes on from where it was.
func TestStoppedInAPrompt(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{Threads: 1})
	ids := []int32{1, 2, 3, 4, 5, 6, 7, 8}
	o := engine.GenOptions{MaxTokens: 4}
	want, err := m.NewSession(1).Continue(context.Background(), 0, nil, ids, o)
	require.NoError(t, err)

	s := m.NewSession(1)
	_, err = s.Feed([]engine.Feed{{Seq: 0, IDs: ids[:5]}})
	require.NoError(t, err)
	_, err = s.Continue(&stopsAfter{context.Background(), 1}, 0, ids[:5], ids[5:], o)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 5, s.Len(0))
	got, err := s.Continue(context.Background(), 0, ids[:5], ids[5:], o)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}
