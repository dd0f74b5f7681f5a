package hf

import (
	"fmt"
	"slices"

	"github.com/guardcpu/guardcpu/engine"
)

// A settled key is one of config.json that a GGUF file has no place for: the architecture decides it.
type settled struct {
	name   string
	value  any // float64 or bool
	absent any // what the library takes where config.json does not say
}

// settled returns those of a model. The scores of gemma2 and gemma3 are scaled as llama.cpp has it, by the
// width of a head, but by D/H for the models of some number of blocks.
func (f *family) settled(s modelShape) []settled {
	arch := f.engine()
	scale := settled{"query_pre_attn_scalar", float64(s.head), 256.0}
	if s.blocks == arch.WideScaleAt {
		scale.value = float64(s.width / s.heads)
	}
	switch f.arch {
	case "gemma2":
		return []settled{scale}
	case "gemma3":
		return []settled{scale, {"rope_local_base_freq", arch.LocalRopeBase, 10000.0}, {"sliding_window_pattern", float64(arch.LocalEvery), 6.0}}
	case "qwen3moe":
		return []settled{{"norm_topk_prob", true, false}}
	}
	return nil
}

// engine is what the engine knows of the architecture.
func (f *family) engine() engine.Arch {
	archs := engine.Architectures()
	return archs[slices.IndexFunc(archs, func(a engine.Arch) bool { return a.Name == f.arch })]
}

// checkSettled refuses a config.json that decides otherwise.
func (f *family) checkSettled(c config, s modelShape) error {
	for _, k := range f.settled(s) {
		v := k.absent
		if _, isNumber := k.value.(float64); isNumber {
			x, ok, err := c.number(k.name, "_"+k.name)
			if local, has := localRope(c); k.name == "rope_local_base_freq" && !ok && has {
				x, ok, err = local.number("rope_theta")
			}
			if err != nil {
				return err
			}
			if ok {
				v = x
			}
		} else if c.m[k.name] != nil {
			v = c.m[k.name]
		}
		if v != k.value {
			return fmt.Errorf("%s is %v, want %v: a GGUF file of %s cannot say so", k.name, v, k.value, f.arch)
		}
	}
	every := 0
	if f.arch == "gemma2" || f.arch == "gemma3" {
		every = f.engine().LocalEvery
	}
	kinds, _ := c.m["layer_types"].([]any)
	for i, kind := range kinds {
		want := "sliding_attention"
		if every > 0 && (i+1)%every == 0 {
			want = "full_attention"
		}
		if every > 0 && kind != want {
			return fmt.Errorf("layer_types[%d] is %v, want %s: a GGUF file of %s cannot say so", i, kind, want, f.arch)
		}
	}
	for _, name := range []string{"attn_logit_softcapping", "final_logit_softcapping"} {
		v, said := c.m[name]
		has := slices.ContainsFunc(f.extra, func(fd field) bool { return fd.key == name })
		if every > 0 && said && has != (v != nil) {
			return fmt.Errorf("%s is %v: a GGUF file of %s cannot say so", name, v, f.arch)
		}
	}
	return nil
}

// localRope is what config.json says of the rotary embedding inside windows, in its new place.
func localRope(c config) (config, bool) {
	r, _ := c.object("rope_parameters")
	return r.object("sliding_attention")
}
