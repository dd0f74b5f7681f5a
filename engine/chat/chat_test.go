package chat

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/internal/mutate"
)

// golden is what testdata/jinja.py has written with Jinja2.
type golden struct {
	Name     string    `json:"name"`
	Template string    `json:"template"`
	Messages []Message `json:"messages"`
	BOS      string    `json:"bos_token"`
	EOS      string    `json:"eos_token"`
	Want     string    `json:"want"`
	Error    bool      `json:"error"` // Jinja2 refuses it
}

func readGolden(t *testing.T, path string) (cases []golden) {
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &cases))
	require.NotEmpty(t, cases)
	return cases
}

func (g golden) check(t *testing.T) {
	tmpl, err := New(g.Template)
	got := ""
	if err == nil {
		tmpl.now = func() time.Time { return time.Date(2026, 3, 7, 15, 4, 5, 0, time.UTC) }
		got, err = tmpl.Render(g.Messages, Variables{BOS: g.BOS, EOS: g.EOS, AddGenerationPrompt: true})
	}
	if g.Error {
		assert.Error(t, err, "got %q", got)
		return
	}
	require.NoError(t, err)
	assert.Equal(t, g.Want, got)
}

// Templates and expressions render as with Jinja2, byte for byte.
func TestRendersAsJinja(t *testing.T) {
	for _, g := range readGolden(t, "testdata/jinja.json") {
		t.Run(g.Name, g.check)
	}
}

// What a template takes is bounded, and it is told what is wrong.
func TestHostileTemplates(t *testing.T) {
	deep := func(open, inner, close string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(close, n)
	}
	doubling := strings.Repeat("{% set x = x + x %}", 60)
	for _, c := range []struct{ name, source, want string }{
		{"long text", "{{ 'a' * 10**9 }}", "makes too much text"},
		{"long text twice", "{{ 10**9 * 'a' }}", "makes too much text"},
		{"doubled text", "{% set x = 'a' %}" + doubling, "makes too much text"},
		{"doubled text with ~", "{% set x = 'a' %}" + strings.Repeat("{% set x = x ~ x %}", 60), "makes too much text"},
		{"doubled list", "{% set x = [1] %}" + doubling, "lists that are too long"},
		{"long list", "{{ [1] * 10**12 }}", "lists that are too long"},
		{"doubled block", "{% set x = 'a' %}" + strings.Repeat("{% set x %}{{ x }}{{ x }}{% endset %}", 60), "makes too much text"},
		{"list of lists", "{% set x = ['aaaa'] %}" + strings.Repeat("{% set x = [x, x] %}", 60) + "{{ x }}", "too much"},
		{"equal lists of lists", "{% set x = [1] %}{% set y = [1] %}" + strings.Repeat("{% set x = [x, x] %}{% set y = [y, y] %}", 60) + "{{ x == y }}", "too much work"},
		{"list of lists as JSON", "{% set x = [1] %}" + strings.Repeat("{% set x = [x, x] %}", 60) + "{{ x|tojson }}", "too much"},
		{"joined", "{{ range(1000000)|join('a' * 1000) }}", "makes too much text"},
		{"replaced", "{{ ('a' * 1000000)|replace('a', 'b' * 1000) }}", "makes too much text"},
		{"replaced nothing", "{{ ('a' * 1000000)|replace('', 'b' * 1000) }}", "makes too much text"},
		{"indented", "{{ ('a\n' * 100000)|indent(100000) }}", "makes too much text"},
		{"output", "{% for i in range(10**6) %}" + strings.Repeat("a", 1000) + "{% endfor %}", "makes too much text"},
		{"range", "{% for i in range(10**9) %}{% endfor %}", "is too long"},
		{"huge range", "{% for i in range(-9223372036854775807, 9223372036854775807) %}{% endfor %}", "is too long"},
		{"nested loops", deep("{% for i in range(1000) %}", "", "{% endfor %}", 6), "too much"},
		{"scanning", "{% set x = 'a' * 10**6 %}{% for i in range(10**5) %}{% if 'b' in x %}{% endif %}{% endfor %}", "too much"},
		{"comparing", "{% set x = 'a' * 10**6 %}{% set y = 'a' * 10**6 %}{% for i in range(10**5) %}{% if x == y %}{% endif %}{% endfor %}", "too much"},
		{"stripping", "{{ ('a' * 10**6).strip('b' * 10**6 + 'a') }}", "too much work"},
		{"unique", "{{ range(10**6)|unique }}", "too much"},
		{"long attribute", "{% set n = 'a' * 10**7 %}{{ range(10**5)|map(attribute=n)|list|length }}", "too much work"},

		{"long key", "{% set n = 'a' * 10**7 %}{% set d = {'a': 1} %}{% for i in range(10**5) %}{% set x = d[n] %}{% endfor %}", "too much work"},
		{"long key of get", "{% set n = 'a' * 10**7 %}{% set d = {'a': 1} %}{% for i in range(10**5) %}{% set x = d.get(n) %}{% endfor %}", "too much work"},
		{"long name", "{% for i in range(10**5) %}{{ " + strings.Repeat("a", 1000) + " }}{% endfor %}", "a name has 1000 bytes"},
		{"indented lines", "{{ ('\n' * 33000000)|indent }}", "lists that are too long"},
		{"time", "{{ strftime_now('%A' * 10**7) }}", "makes too much text"},
		{"long message", "{{ raise_exception('é' * 10**6) }}", "refuses the conversation: éé"},
		{"recursion", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "inside of each other"},
		{"recursion of two", "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}", "inside of each other"},
		{"wide recursion", "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", "too much"},
		{"recursion in a long sum", "{% macro f() %}{{ f() " + strings.Repeat("~ 'a' ", 1000) + "}}{% endmacro %}{{ f() }}", "inside of each other"},
		{"namespace in itself", "{% set n = namespace() %}{% set n.a = [n] %}{{ n }}", "inside of each other"},
		{"equal namespaces in themselves", "{% set n = namespace() %}{% set m = namespace() %}{% set n.a = m %}{% set m.a = n %}{{ [n.a] == [m.a] }}", ""},
		{"brackets", "{{ " + deep("(", "1", ")", 100000) + " }}", "inside of each other"},
		{"lists", "{{ " + deep("[", "1", "]", 100000) + " }}", "inside of each other"},
		{"signs", "{{ " + deep("-", "1", "", 100000) + " }}", "inside of each other"},
		{"negations", "{{ " + deep("not ", "1", "", 100000) + " }}", ""},
		{"ifs", deep("{% if 1 %}", "", "{% endif %}", 10000), "inside of each other"},
		{"conditions", "{{ " + deep("1 if 1 else ", "1", "", 10000) + " }}", "inside of each other"},
		{"sum", "{{ 1" + strings.Repeat(" + 1", 100000) + " }}", "inside of each other"},
		{"attributes", "{{ messages" + strings.Repeat("[0]", 10000) + " }}", "inside of each other"},
		{"filters", "{{ 'a'" + strings.Repeat("|trim", 100000) + " }}", "inside of each other"},
		{"source", strings.Repeat("a", maxSource+1), "bytes, want at most"},
		{"numbers", "{{ 9223372036854775807 + 1 }}", "too large"},
		{"least number", "{{ (-9223372036854775807 - 1) // -1 }}", "too large"},
		{"product of numbers", "{{ 3037000500 * 3037000500 }}", "too large"},
		{"large literal", "{{ 99999999999999999999 }}", "too large"},
		{"power", "{{ 10 ** 10 ** 10 }}", "too large"},
		{"modulo zero", "{{ 1 % 0 }}", "division by zero"},
		{"slice", "{{ 'abc'[::0] }}", "step of a slice is 0"},
		{"slice of a large step", "{{ 'abc'[::9223372036854775807] }}{{ 'abc'[::-9223372036854775807] }}", ""},
		{"unclosed", "{{ 'a' ", "not closed"},
		{"unclosed string", "{{ 'a }}", "not closed"},
		{"unclosed block", "{% if 1 %}", "want endif"},
		{"unclosed comment", "{# a", "not closed"},
		{"stray end", "{% endif %}", "ends nothing"},
		{"include", "{% include '/etc/passwd' %}", "not allowed"},
		{"import", "{% import 'a' as b %}", "not allowed"},
		{"extends", "{% extends 'a' %}", "not allowed"},
		{"escape", "{{ ''.__class__.__mro__ }}", "undefined"},
		{"escape through a function", "{{ range.__globals__ }}", ""},
		{"environment", "{{ self._TemplateReference__context }}", "undefined"},
		{"unknown filter", "{{ 'a'|attr('x') }}", "not known"},
		{"unknown filter of map", "{{ ['a']|map('nope')|list }}", "wants attribute"},
		{"unknown test", "{{ 'a' is nope }}", "not known"},
		{"unknown function", "{{ open('/etc/passwd') }}", "not known"},
		{"bytes", "\xff{{ '\xff' }}{{ \xff", "not closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			tmpl, err := New(c.source)
			if err == nil {
				_, err = tmpl.Render([]Message{{"user", "hello"}}, Variables{})
			}
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if c.want == "" {
				assert.NoError(t, err)
			} else if assert.Error(t, err) {
				assert.Contains(t, err.Error(), c.want)
				assert.Less(t, len(err.Error()), 400)
			}
			assert.Less(t, took, time.Minute) // a second on a quiet machine
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<30))
			t.Logf("%v, %d MiB", took, (after.TotalAlloc-before.TotalAlloc)>>20)
		})
	}
}

// Built-in templates give what llama.cpp's of the same name give (its tests/test-chat-template.cpp).
func TestBuiltin(t *testing.T) {
	conversation := []Message{
		{"system", "You are a helpful assistant"}, {"user", "Hello"}, {"assistant", "Hi there"},
		{"user", "Who are you"}, {"assistant", "   I am an assistant   "}, {"user", "Another question"},
	}
	want := map[string]string{
		"chatml":     "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi there<|im_end|>\n<|im_start|>user\nWho are you<|im_end|>\n<|im_start|>assistant\n   I am an assistant   <|im_end|>\n<|im_start|>user\nAnother question<|im_end|>\n<|im_start|>assistant\n",
		"llama2":     "[INST] <<SYS>>\nYou are a helpful assistant\n<</SYS>>\n\nHello [/INST]Hi there</s><s>[INST] Who are you [/INST]   I am an assistant   </s><s>[INST] Another question [/INST]",
		"llama3":     "<s><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHi there<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWho are you<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nI am an assistant<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnother question<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
		"mistral-v7": "<s>[SYSTEM_PROMPT] You are a helpful assistant[/SYSTEM_PROMPT][INST] Hello[/INST] Hi there</s>[INST] Who are you[/INST]    I am an assistant   </s>[INST] Another question[/INST]",
		"phi3":       "<|system|>\nYou are a helpful assistant<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi there<|end|>\n<|user|>\nWho are you<|end|>\n<|assistant|>\n   I am an assistant   <|end|>\n<|user|>\nAnother question<|end|>\n<|assistant|>\n",
		"phi4":       "<|im_start|>system<|im_sep|>You are a helpful assistant<|im_end|><|im_start|>user<|im_sep|>Hello<|im_end|><|im_start|>assistant<|im_sep|>Hi there<|im_end|><|im_start|>user<|im_sep|>Who are you<|im_end|><|im_start|>assistant<|im_sep|>   I am an assistant   <|im_end|><|im_start|>user<|im_sep|>Another question<|im_end|><|im_start|>assistant<|im_sep|>",
		"gemma":      "<s><start_of_turn>user\nYou are a helpful assistant\n\nHello<end_of_turn>\n<start_of_turn>model\nHi there<end_of_turn>\n<start_of_turn>user\nWho are you<end_of_turn>\n<start_of_turn>model\nI am an assistant<end_of_turn>\n<start_of_turn>user\nAnother question<end_of_turn>\n<start_of_turn>model\n",
		"zephyr":     "<|system|>\nYou are a helpful assistant<|endoftext|>\n<|user|>\nHello<|endoftext|>\n<|assistant|>\nHi there<|endoftext|>\n<|user|>\nWho are you<|endoftext|>\n<|assistant|>\n   I am an assistant   <|endoftext|>\n<|user|>\nAnother question<|endoftext|>\n<|assistant|>\n",
		"vicuna":     "You are a helpful assistant\n\nUSER: Hello\nASSISTANT: Hi there</s>\nUSER: Who are you\nASSISTANT:    I am an assistant   </s>\nUSER: Another question\nASSISTANT:",
	}
	require.Len(t, want, len(Builtin))
	for _, b := range Builtin {
		tmpl, err := Named(b.Name)
		require.NoError(t, err)
		got, err := tmpl.Render(conversation, Variables{BOS: "<s>", EOS: "</s>", AddGenerationPrompt: true})
		require.NoError(t, err)
		assert.Equal(t, want[b.Name], got, b.Name)
	}
	_, err := Named("nope")
	assert.ErrorContains(t, err, "chatml")
}

// Any text is a template that renders or an error, never a panic.
func FuzzTemplate(f *testing.F) {
	data, err := os.ReadFile("testdata/jinja.json")
	require.NoError(f, err)
	var cases []golden
	require.NoError(f, json.Unmarshal(data, &cases))
	for _, c := range cases {
		f.Add([]byte(c.Template))
	}
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		tmpl, err := New(string(data))
		if err == nil {
			_, err = tmpl.Render([]Message{{"system", "s"}, {"user", "hello <|x|>"}}, Variables{BOS: "<s>", EOS: "</s>"})
		}
		if err != nil {
			require.NotContains(t, err.Error(), "runtime error")
		}
	})
}
