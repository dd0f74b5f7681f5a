package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/tofu"
)

// modelOf is a result with these probabilities of the forget set, and its rates
// against a model that has 0.5 of both sets.
func modelOf(t *testing.T, name string, seed uint64, forget ...float64) result {
	metrics := func(forget ...float64) *tofu.Metrics {
		l := &tofu.Logs{Retain: []tofu.Row{{Answer: tofu.Loss{Avg: 1}}, {Index: 1, Answer: tofu.Loss{Avg: 1}}}}
		for i, p := range forget {
			l.Forget = append(l.Forget, tofu.Row{Index: i, Answer: tofu.Loss{Avg: -math.Log(p)}})
		}
		m, err := l.Metrics(nil)
		require.NoError(t, err)
		return m
	}
	r := result{Model: name, Seed: seed, Metrics: metrics(forget...)}
	var err error
	r.Sacrifice, err = tofu.SacrificeRate(metrics(0.5, 0.5), r.Metrics)
	require.NoError(t, err)
	return r
}

// cells returns the columns of the line of a table that starts so.
func cells(t *testing.T, table, start string) []string {
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, start) {
			var out []string
			for _, c := range strings.Split(strings.Trim(line, "| \n"), "|") {
				out = append(out, strings.TrimSpace(c))
			}
			return out
		}
	}
	require.Fail(t, "no such line", "%s in\n%s", start, table)
	return nil
}

// A mean says of how many runs it is; a rate counts only where the forget set lost
// knowledge; what has no number is a dash.
func TestTable(t *testing.T) {
	b := &bench{results: []result{
		modelOf(t, "ga/plain", 1, 0.25, 0.25), modelOf(t, "ga/plain", 2, 0.75, 0.75), modelOf(t, "ga/plain", 3, 0.1, 0.9),
		modelOf(t, "ga/guard", 1, 0.125, 0.125), {Model: "ga/guard", Seed: 2, Diverged: "diverged"}, modelOf(t, "ga/guard", 3, 0.2, 0.2),
	}}
	table := b.table()
	head := cells(t, table, "| model |")
	at := func(line []string, name string) string {
		require.Len(t, line, len(head))
		for i := range head {
			if head[i] == name {
				return line[i]
			}
		}
		return "no column " + name
	}
	plain := cells(t, table, "| ga/plain |")
	assert.Equal(t, "3 of 3", at(plain, "runs"))
	assert.Equal(t, "0.500 ± 0.250", at(plain, "forget P"))
	assert.Equal(t, "0.000 (1 of 3)", at(plain, "SR P"), "seed 2 gained, seed 3 is undefined")
	assert.Equal(t, "-", at(plain, "utility"))
	weighted := cells(t, table, "| ga/guard |")
	assert.Equal(t, "2 of 3", at(weighted, "runs"))

	assert.Equal(t, "-0.125", at(cells(t, table, "| ga | 1 |"), "forget P"))
	third := cells(t, table, "| ga | 3 |")
	assert.Equal(t, "-0.300", at(third, "forget P"))
	assert.Equal(t, "-", at(third, "SR P"))
	assert.NotContains(t, table, "| ga | 2 |", "diverged")
	assert.NotContains(t, table, "NaN")
}

// A run that was interrupted while its logs were written is not taken for done.
func TestSaved(t *testing.T) {
	b := &bench{out: t.TempDir()}
	l, err := b.saved("ga-plain-1")
	require.NoError(t, err)
	assert.Nil(t, l)

	dir := filepath.Join(b.out, "logs", "ga-plain-1")
	want := &tofu.Logs{Forget: []tofu.Row{{Answer: tofu.Loss{Avg: 1}}}}
	require.NoError(t, want.Write(dir))
	all := filepath.Join(dir, "eval_log_aggregated.json")
	raw, err := os.ReadFile(all)
	require.NoError(t, err)
	require.NoError(t, os.Remove(all))
	l, err = b.saved("ga-plain-1")
	require.NoError(t, err)
	assert.Nil(t, l)

	require.NoError(t, os.WriteFile(all, raw, 0o644))
	l, err = b.saved("ga-plain-1")
	require.NoError(t, err)
	assert.Equal(t, want, l)
}
