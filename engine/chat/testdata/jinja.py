#!/usr/bin/env python3
"""Writes jinja.json: what Jinja2, set up as Hugging Face's transformers sets it up, makes of the
templates below. Run as `python3 jinja.py > jinja.json`; last with Jinja2 3.1.6, Python 3.13."""
import datetime, json, sys
import jinja2, jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2026, 3, 7, 15, 4, 5)

CONVERSATION = [
    {"role": "system", "content": "You are a helpful assistant"},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi there"},
    {"role": "user", "content": "Who are you"},
    {"role": "assistant", "content": "   I am an assistant   "},
    {"role": "user", "content": "Another \"question\", <|im_end|>\nwith ünïcödé & 'quotes'"},
]

# Written for this test in the manner of the templates that models of each architecture have.
TEMPLATES = {
"chatml": """{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
"chatml with a default system message": """{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "system" %}
        {{- '<|im_start|>system\\n' ~ message.content ~ '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
"llama 2": """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
"llama 3": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- the system message is taken out #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one tool call at a time") }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
"mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("roles must alternate") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if message == user_messages[-1] %}{{- "[LAST]" }}{% endif %}
        {{- "[INST] " + message["content"] + "[/INST]" }}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
""",
"gemma": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first_user_prefix = messages[0]['content'] + '\\n\\n' %}{% set loop_messages = messages[1:] %}{% else %}{% set first_user_prefix = "" %}{% set loop_messages = messages %}{% endif %}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
""",
"gemma refuses system": """{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}""",
"phi 3": """{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'user' %}{{'<|user|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>
' + message['content'] + '<|end|>
'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}""",
"zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
"qwen 3, thoughts taken out of the history": """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
"olmo 2": """{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\\n'  + message['content'] + eos_token + '\\n' }}{% else %}{{ '<|assistant|>\\n'  + message['content'] + eos_token }}{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}""",
"macros": """{%- macro turn(role, text, end='<end>') -%}
[{{ role|upper }}] {{ text|trim }}{{ end }}
{%- endmacro %}
{%- macro all(list) %}{% for m in list %}{{ turn(m.role, m.content) }}{{ turn(m['role'], text=m.content, end='') }}{% endfor %}{% endmacro -%}
{{ all(messages) }}""",
"loop controls": """{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{% if loop.index0 > 3 %}{% break %}{% endif %}{{ loop.index }}/{{ loop.length }} {{ m.role }} {{ loop.revindex }} {{ loop.cycle('a', 'b') }} {{ loop.previtem.role if loop.previtem is defined }};{% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}""",
"blocks of text": """{% set x %}a{{ 1 + 1 }}b{% endset %}[{{ x }}]{% set y | upper %}abc{% endset %}{{ y }}{% filter upper %}d{{ x }}{% endfilter %}{% raw %}{{ raw }} {% if %}{% endraw %}""",
"blanks": "  {% if true %}  \n  a  {%- if true -%}  b  {% endif %}\n\n   {%+ if true %}c{% endif +%}\n{{ 'd' }}\n {# comment #}\ne  {#- another -#}  f\n{{- 'g' -}}\n  h {% endif %}\n\n",
"generation": """{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}""",
"scopes": """{% set x = 1 %}{% for m in messages %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 5 %}{% endif %}{{ x }}{% set a, b = 1, 2 %}{{ a }}{{ b }}{% for k, v in {'p': 1, 'q': [2]}.items() %}{{ k }}={{ v }};{% endfor %}""",
}

EXPRESSIONS = """
1 + 2 * 3 - 4 // 3 % 5
-7 // 2, -7 % 3, 7 // -2, 7 % -3, 7 / 2, 2 ** 10, 2 ** -1
-2 ** 2
1.5 + 1, 1e3 is defined
'a' ~ 1 ~ none ~ true ~ 1.0
'a' * 3, [1] * 2
'ab' + 'c' in 'xabcx'
not 1 == 2 and 3 > 2 or false
1 < 2 < 3, 1 < 3 < 2
1 if false else 2 if true else 3
'x' if false
[1, 'a', none, true, 1.5, {'k': (1,)}]
'it\\'s', "q\\"q", 'a\\nb'
["it's", 'say "x"', 'both \\'"', 'a\\nb\\\\']
messages[0].role, messages[-1]['role'], messages[99] is defined, messages[0].nothing is defined
messages[1:3]|length, messages[::-1][0].role, messages[:-1]|length, 'hello'[1:4], 'hello'[::-1], 'hello'[-3:], [1,2,3,4][::2], [1,2,3][5:], 'abc'[::-2]
messages|map(attribute='role')|join(', ')
messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list|length
messages|rejectattr('role', 'in', ['user', 'system'])|list|length
messages|selectattr('content')|list|length
[1,2,3,4]|select('odd')|list, [1,2,3]|reject('greaterthan', 1)|list
[3,1,2]|sort, ['b','A','c']|sort, [1,2,3]|reverse|list, [1,1,2]|unique|list, [1,2]|sum, [2,1]|min, [1,5]|max
{'b': 1, 'a': 2}|dictsort, {'b': 1}|items|list
'  a b '|trim, '  a '.strip() + '|', 'xxaxx'.strip('x'), 'xxa'.lstrip('x'), 'axx'.rstrip('x')
'a,b,c'.split(','), 'a b  c'.split(), 'a,b,c'.split(',', 1), 'a,b,c'.rsplit(',', 1)
'hello world'|title, "they're".title(), 'hELLO'|capitalize, 'abc'|upper, 'ABC'.lower()
'aXbX'|replace('X', 'y'), 'aXbX'.replace('X', 'y', 1)
'abc'.startswith('ab'), 'abc'.endswith(('x', 'bc')), 'abc'.find('c'), 'abc'.find('z'), 'abcabc'.count('b')
x is defined, x is undefined, none is none, 1 is number, 'a' is string, [] is iterable, {} is mapping, [1] is sequence, true is boolean, 1 is integer, 1.0 is float, 2 is even, 3 is odd, 6 is divisibleby 3, 1 is eq 1, 1 is not none
x|default('d'), ''|default('d', true), none|default('d'), x|d('e')
'12'|int + 1, 'x'|int, '1.5'|float, 3.7|int, -3|abs, 3.14159|round(2), 2.5|round
[1,2,3]|first, [1,2,3]|last, 'abc'|first, [1,2]|length, 'äöü'|length
{'a': [1, {'b': none}], 'c': 'é"<>&\\n', 'd': true, 'e': 1.5}|tojson
{'a': [1, {'b': none}], 'c': [], 'd': {}}|tojson(indent=2)
[1,2]|tojson, 'x'|tojson, none|tojson, '\\u2028'|tojson
'a\\nb\\n\\nc'|indent, 'a\\nb'|indent(2, true), 'a\\nb'|indent(width=1)
'<a href="x">&\\'</a>'|escape
range(3)|list, range(1, 7, 2)|list, range(3, 0, -1)|list
dict(a=1, b='x'), dict(a=1).get('b', 'none'), {'a': 1}.get('z') is none, {'a': 1}.keys()|list, {'a': 1}.values()|list
'a' in {'a': 1}, 1 in [1, 2], 'z' not in 'abc'
(1, 2)[0], [[1, 2], [3]][0][1], {'a': {'b': 'c'}}.a.b
'%' ~ '}' ~ '{{'
strftime_now('%d %B %Y %H:%M:%S %a %b %y %j %p %I %%')
[1, 2] + [3], (1,) + (2,), 'a' 'b'
'a\\tb\\x41\\u00e9'
'abc'|list, 'a-b'|string, 12|string + '3'
true and 'x', false or 'y', '' or none
1 == 1.0, true == 1, 'a' == 'a', [1, {'a': 2}] == [1, {'a': 2}], none == false
1 + '1'
x.y
x + 1
1 / 0
'a' < 1
messages.foo.bar
nothing('x')
''.join(['a', 'b']), '-'.join(messages|map(attribute='role'))
'abc'.isdigit(), '12'.isdigit(), 'a\\nb'.splitlines()
[['a', 1], ['b', 2]]|map('first')|join, ['a', 'b']|map('upper')|join('+')
[{'n': 2}, {'n': 1}]|sort(attribute='n')|map(attribute='n')|list, [{'a': {'b': 3}}]|map(attribute='a.b')|list, [{'n': 2}]|sum(attribute='n')
1000000 * 1000000, 1e-5, 0.1 + 0.2, 1.0, 100000000000000000.0
""".strip().split("\n")


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def render(template, messages=CONVERSATION, bos="<s>", eos="</s>"):
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return env.from_string(template).render(messages=messages, bos_token=bos, eos_token=eos, add_generation_prompt=True)


def case(name, template, **extra):
    c = {"name": name, "template": template, "messages": CONVERSATION, "bos_token": "<s>", "eos_token": "</s>"}
    try:
        c["want"] = render(template)
    except Exception as e:
        c["error"] = True
    return c


if __name__ == "__main__":
    cases = [case(n, t) for n, t in TEMPLATES.items()]
    cases += [case(e, "{{ " + e + " }}") for e in EXPRESSIONS]
    json.dump(cases, sys.stdout, ensure_ascii=False, indent=1)
    print()
