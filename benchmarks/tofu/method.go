package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
)

// mode is what is trained, with the optimizer for it.
type mode struct {
	name, optimizer string
	train           func(m *engine.Model, seed uint64) error
}

var modes = []mode{
	{"full", "adamw", trainFull},
	{"full-adafactor", "adafactor", trainFull}, // tells what the optimizer of fused changes from what its rounding does
	{"fused", "adafactor", func(m *engine.Model, seed uint64) error {
		m.TrainFused(seed)
		return nil
	}},
	{"lora", "adamw", func(m *engine.Model, seed uint64) error {
		o := engine.DefaultLoRAOptions()
		o.Seed = seed
		return m.TrainLoRA(o)
	}},
}

func trainFull(m *engine.Model, _ uint64) error {
	m.TrainFull()
	return nil
}

// method is an objective in a mode with its learning rate, chosen for the plain objective (LOG.md)
// and used for the weighted one as it is.
type method struct {
	mode mode
	name string
	lr   float64
}

// parseMethods reads a list of [MODE:]OBJECTIVE=LEARNING-RATE; the mode is full where none is named.
func parseMethods(list string) (methods []method, err error) {
	for _, text := range strings.Split(list, ",") {
		name, rate, _ := strings.Cut(text, "=")
		me := method{mode: modes[0], name: name}
		if m, objective, ok := strings.Cut(name, ":"); ok {
			me.name, me.mode = objective, mode{}
			for _, known := range modes {
				if known.name == m {
					me.mode = known
				}
			}
		}
		if me.lr, err = strconv.ParseFloat(rate, 64); err != nil || me.mode.train == nil {
			return nil, fmt.Errorf("methods: %q is not [MODE:]OBJECTIVE=LEARNING-RATE with a mode of full, full-adafactor, fused and lora", text)
		}
		methods = append(methods, me)
	}
	return methods, nil
}

// label names the method in tables, and with - for separators in folders.
func (me method) label(separator string) string {
	name := fmt.Sprintf("%s%s%g", me.name, separator, me.lr)
	if me.mode.name != modes[0].name {
		name = me.mode.name + separator + name
	}
	return name
}
