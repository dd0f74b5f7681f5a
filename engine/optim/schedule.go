package optim

import (
	"fmt"
	"math"
	"strings"
)

// Schedule gives the learning rate of update t as a share of its peak:
// t counts updates from 0, warmup ≤ steps, and the share is in [0,1].
type Schedule struct {
	Name  string
	Doc   string
	Share func(t, warmup, steps int) float64
}

// Schedules lists the learning rate schedules by name. All of them rise linearly
// over the first warmup updates, t/warmup, so that with warmup > 0 the first
// update has rate 0, as the schedules of Hugging Face transformers do.
var Schedules = []Schedule{
	{"constant", "the peak rate after the warmup", func(t, warmup, steps int) float64 {
		return warm(t, warmup, 1)
	}},
	{"linear", "falls linearly to 0 at the last update: (steps-t)/(steps-warmup)", func(t, warmup, steps int) float64 {
		return warm(t, warmup, math.Max(0, float64(steps-t)/math.Max(1, float64(steps-warmup))))
	}},
	{"cosine", "half a cosine to 0 at the last update: ½(1+cos(π(t-warmup)/(steps-warmup)))", func(t, warmup, steps int) float64 {
		x := float64(t-warmup) / math.Max(1, float64(steps-warmup))
		return warm(t, warmup, 0.5*(1+math.Cos(math.Pi*math.Min(1, x))))
	}},
}

func warm(t, warmup int, after float64) float64 {
	if t < warmup {
		return float64(t) / float64(warmup)
	}
	return after
}

// ScheduleByName returns the schedule of that name, or an error that lists the known ones.
func ScheduleByName(name string) (Schedule, error) {
	known := make([]string, len(Schedules))
	for i, s := range Schedules {
		if s.Name == name {
			return s, nil
		}
		known[i] = s.Name
	}
	return Schedule{}, fmt.Errorf("optim: schedule %q is not known; there are %s", name, strings.Join(known, ", "))
}
