package chat

import (
	"fmt"
	"strings"
)

// Builtin are templates by the names that llama.cpp gives them, for files that have none and for
// --chat-template. They are written after its llm_chat_apply_template.
var Builtin = []struct{ Name, Source string }{
	{"chatml", `{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}` +
		`{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`},
	{"llama2", `{% set ns = namespace(inside=true) %}{{ '[INST] ' }}{% for m in messages %}` +
		`{% if not ns.inside %}{% set ns.inside = true %}{{ bos_token + '[INST] ' }}{% endif %}` +
		`{% if m.role == 'system' %}{{ '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' }}` +
		`{% elif m.role == 'user' %}{{ m.content + ' [/INST]' }}` +
		`{% else %}{{ m.content + eos_token }}{% set ns.inside = false %}{% endif %}{% endfor %}`},
	{"llama3", `{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content|trim + '<|eot_id|>' }}{% endfor %}` +
		`{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}`},
	{"mistral-v7", `{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ '[SYSTEM_PROMPT] ' + m.content + '[/SYSTEM_PROMPT]' }}` +
		`{% elif m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}`},
	{"phi3", `{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}` +
		`{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}`},
	{"phi4", `{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}` +
		`{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}`},
	{"gemma", `{{ bos_token }}{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}{% set ns.system = m.content|trim + '\n\n' %}` +
		`{% else %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}` +
		`{% if m.role == 'user' %}{{ ns.system }}{% set ns.system = '' %}{% endif %}{{ m.content|trim + '<end_of_turn>\n' }}{% endif %}{% endfor %}` +
		`{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}`},
	{"zephyr", `{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|endoftext|>\n' }}{% endfor %}` +
		`{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}`},
	{"vicuna", `{% for m in messages %}{% if m.role == 'system' %}{{ m.content + '\n\n' }}{% elif m.role == 'user' %}{{ 'USER: ' + m.content + '\n' }}` +
		`{% else %}{{ 'ASSISTANT: ' + m.content + '</s>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}`},
}

// Named returns the built-in template of that name.
func Named(name string) (*Template, error) {
	for _, b := range Builtin {
		if b.Name == name {
			return New(b.Source)
		}
	}
	return nil, fmt.Errorf("chat: the template %q is not known; there are %s", name, strings.Join(Names(), ", "))
}

// Names lists the built-in templates.
func Names() []string {
	names := make([]string, len(Builtin))
	for i, b := range Builtin {
		names[i] = b.Name
	}
	return names
}
