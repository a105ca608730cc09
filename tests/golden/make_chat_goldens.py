#!/usr/bin/env python3
"""Makes chat.json: what Jinja 2, set up as transformers sets it up, renders from templates.

Command (from anywhere; the file goes to the folder this script lies in):

    python3 make_chat_goldens.py [--folder MODEL_FOLDER]

Versions the committed file was made with: Python 3.11.7, transformers 5.24.0, jinja2 3.1.6.

Every template here was written for this project. The families imitate the structure of the chat
formats that models use; the snippets go through the language construct by construct. The built-in
templates are read from src/text/built_in_templates.cpp. Conversations are made from a fixed seed.

With --folder, nothing is written: the script prints chat.json for the template of that model
folder, to compare outside of the repository: MORA_CHAT_GOLDEN=FILE mora-tests -ts=chat_template.
"""

import argparse
import hashlib
import json
import random
import re
import sys
from datetime import datetime
from pathlib import Path
from unittest import mock

import jinja2
import transformers
from transformers.utils import chat_template_utils

OUT = Path(__file__).resolve().parent
TIME = 1700000000  # 2023-11-14 22:13:20 UTC
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


class FixedDate(datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.utcfromtimestamp(TIME)


def render(template, messages, **variables):
    """The text and the generation blocks as character ranges, or None if the template fails."""
    with mock.patch.object(chat_template_utils, "datetime", FixedDate):
        try:
            compiled = chat_template_utils._compile_jinja_template(template)
            if "generation" in template:
                text, spans = chat_template_utils._render_with_assistant_indices(
                    compiled, messages, None, None, **variables)
                return text, [list(s) for s in spans]
            return compiled.render(messages=messages, tools=None, documents=None, **variables), []
        except Exception:  # whatever Python raises is an error of the template
            return None


# ---- conversations

WORDS = ("river stone Paris 42 {{ x }} {% if %} {# no #} <s> </s> <|im_start|> [INST] naïve café 日本語 "
         "😀 \"quoted\" it's a\\b tab\there line\nbreak two\n\nbreaks # percent% end").split(" ")


def sentence(r):
    text = " ".join(r.choice(WORDS) for _ in range(r.randint(0, 7)))
    return r.choice(["", "", "", " ", "\n", "  \n\t", "\u00a0"]) + text + r.choice(["", "", "", " ", "\n", " \n\n"])


def conversations(count):
    r = random.Random(5)
    result = []
    for i in range(count):
        messages = []
        if i % 3 == 1:
            messages.append({"role": "system", "content": sentence(r)})
        for k in range(r.randint(1, 6)):
            messages.append({"role": "assistant" if k % 2 else "user", "content": sentence(r)})
        if i % 11 == 7:  # out of turn
            messages.append({"role": r.choice(["user", "assistant", "system"]), "content": sentence(r)})
        if i % 8 == 5:  # contents as lists of parts
            for m in messages:
                m["content"] = [{"type": "text", "text": m["content"]}, {"type": "text", "text": sentence(r)}]
        result.append({"messages": messages, "add_generation_prompt": i % 2 == 0})
    return result


# ---- families: our own texts with the structure of well-known formats

FAMILIES = {
    "blocks": """{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set sys = messages[0]['content'] %}{% else %}{% set rest = messages %}{% set sys = false %}{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles have to take turns: user, assistant, user, ...') }}{% endif %}{% if loop.index0 == 0 and sys != false %}{% set text = '<<A>>\\n' + sys + '\\n<</A>>\\n\\n' + m['content'] %}{% else %}{% set text = m['content'] %}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[Q] ' + text.strip() + ' [/Q]' }}{% elif m['role'] == 'assistant' %}{{ ' '  + text.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "headers": """{{- bos_token }}
{%- if not date is defined %}
    {%- set date = strftime_now("%d %b %Y") %}
{%- endif %}
{#- a comment that takes its line with it #}
{%- if messages[0]['role'] == 'system' %}
    {%- set head = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set head = "" %}
{%- endif %}
{{- "<|h|>system<|/h|>\\n\\n" }}
{%- if tools is not none %}
    {{- "tools\\n" }}
{%- endif %}
{{- "Today: " + date + "\\n\\n" }}
{{- head }}
{{- "<|e|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|h|>' + message['role'] + '<|/h|>\\n\\n'+ message['content'] | trim + '<|e|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|h|>assistant<|/h|>\\n\\n' }}
{%- endif %}
""",
    "loop_set": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|h|>' + message['role'] + '<|/h|>\n\n'+ message['content'] | trim + '<|e|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{{ '<|h|>assistant<|/h|>\n\n' }}",
    "marks": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|b|>system\nAnswer well.<|e|>\n' }}{% endif %}{{'<|b|>' + message['role'] + '\n' + message['content'] + '<|e|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|b|>assistant\n' }}{% endif %}",
    "lines": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
""",
    "namespaces": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("turn by turn, please") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[Q] " + system_message + "\\n\\n" + message["content"] + "[/Q]" }}
        {%- else %}
            {{- "[Q] " + message["content"] + "[/Q]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("only these roles: " + message["role"]) }}
    {%- endif %}
{%- endfor %}
""",
    "generation": """{% macro say(c) %}{% if c is string %}{{ c }}{% else %}{% for p in c %}{{ p['text'] }}{% if not loop.last %}|{% endif %}{% endfor %}{% endif %}{% endmacro %}
{% for m in messages %}
  {% if m.role == 'assistant' %}
[A]{% generation %}{{ say(m.content) }}{{ eos_token }}{% endgeneration %}

  {% else %}
[{{ m.role[0] | upper }}]{{ say(m.content) ~ '\n' }}
  {% endif %}
{% endfor %}
{%- if add_generation_prompt %}[A]{% endif %}
""",
}

# ---- snippets: one construct each; v is a dictionary of values

VALUES = ("{% set v = {'s': ' Ab c ', 'u': 'né日本', 'n': 7, 'f': 2.5, 't': true, 'l': [3, 'x', none], "
          "'d': {'a': 1, 'b': [1, 2]}, 'e': '', 'z': none} %}")

SNIPPETS = r"""
{{ 1 }}|{{ -1 }}|{{ 'a' }}|{{ "b\n\t\\\"\x41\u00e9\U0001F600" }}|{{ 'it\'s' }}|{{ 'a' 'b' }}
{{ true }}|{{ True }}|{{ false }}|{{ none }}|{{ None }}|{{ missing }}|{{ 1.5 }}|{{ 2.0 }}|{{ 1.0 / 3 }}
{{ 100000000000000000.0 }}|{{ 0.0001 }}|{{ 0.00001 }}|{{ 1.25 * 2 }}|{{ 3.0 // 2 }}|{{ -3.5 % 2 }}
{{ [1, 'a', none, true, 2.5] }}|{{ (1, 2) }}|{{ (1,) }}|{{ () }}|{{ [] }}|{{ {} }}|{{ {'a': 1, 'b': 'x"y'} }}|{{ ["it's"] }}
{{ 7 + 2 * 3 }}|{{ (7 + 2) * 3 }}|{{ 7 / 2 }}|{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 7 % -3 }}|{{ 2 - 3 - 4 }}
{{ 'a' ~ 1 ~ none ~ true ~ missing }}|{{ 'ab' * 3 }}|{{ 2 * 'x' }}|{{ [1] * 2 }}|{{ [1] + [2] }}|{{ 'a' + 'b' + 'c' }}|{{ 'a' * -1 }}
{{ 1 < 2 }}|{{ 1 < 2 < 3 }}|{{ 1 < 3 < 2 }}|{{ 'a' < 'b' }}|{{ 'é' > 'z' }}|{{ [1, 2] < [1, 3] }}|{{ 1 == 1.0 }}|{{ true == 1 }}|{{ 'a' != 'b' }}|{{ [1] == (1,) }}
{{ 1 in [1, 2] }}|{{ 'a' in 'cat' }}|{{ 'a' not in 'cat' }}|{{ 'k' in {'k': 1} }}|{{ none in [none] }}|{{ not 1 in [2] }}|{{ 'x' in missing }}
{{ true and 'x' }}|{{ '' or 'y' }}|{{ not '' }}|{{ not not 1 }}|{{ none or false }}|{{ 0 and missing.x }}|{{ 1 or missing.x }}
{{ 'a' if true else 'b' }}|{{ 'a' if false else 'b' }}|{{ 'a' if false }}|{{ 'a' if false else 'b' if false else 'c' }}|{{ ('a' if true else 'b') + 'c' }}
{{ v.s }}|{{ v['s'] }}|{{ v.d.a }}|{{ v['d']['b'][1] }}|{{ v.l[0] }}|{{ v.l[-1] }}|{{ v.l[9] }}|{{ v.l.1 }}|{{ v.nothing }}|{{ v.u[1] }}|{{ v.u[-1] }}|{{ v['u'][0] }}
{{ v.u[1:] }}|{{ v.u[:2] }}|{{ v.u[::-1] }}|{{ v.l[1:] }}|{{ v.l[:-1] }}|{{ v.l[::2] }}|{{ v.s[10:] }}|{{ v.s[-3:-1] }}|{{ 'abcdef'[4:1:-1] }}|{{ 'abc'[:] }}|{{ 'abcdef'[-100:3] }}|{{ 'abcdef'[5:-100:-2] }}|{{ [1,2,3][1:9] }}
{{ v.s is defined }}|{{ missing is defined }}|{{ missing is not defined }}|{{ missing is undefined }}|{{ v.z is none }}|{{ v.z is not none }}|{{ v.s is string }}|{{ v.n is string }}
{{ v.d is mapping }}|{{ v.l is mapping }}|{{ v.l is iterable }}|{{ v.n is iterable }}|{{ v.s is iterable }}|{{ v.l is sequence }}|{{ v.n is sequence }}|{{ v.n is number }}|{{ v.t is number }}|{{ v.s is number }}
{{ v.t is true }}|{{ v.n is true }}|{{ v.t is false }}|{{ false is false }}|{{ v.t is boolean }}|{{ v.n is integer }}|{{ v.t is integer }}|{{ v.f is float }}|{{ 3 is odd }}|{{ 4 is even }}|{{ 9 is divisibleby 3 }}|{{ 9 is divisibleby(2) }}
{{ v.n is equalto 7 }}|{{ v.n is eq(8) }}|{{ v.n is ne 8 }}|{{ 1 is in [1] }}|{{ v.n is defined and v.n == 7 }}|{{ not v.n is defined }}|{{ v.n is defined or missing.x }}
{{ v.s | trim }}|{{ '\u00a0 x \u2003' | trim }}|{{ 'xxaxx' | trim('x') }}|{{ missing | trim }}|{{ 5 | trim }}|{{ v.s|trim|length }}|{{ v.u | length }}|{{ v.l | length }}|{{ v.d | count }}|{{ missing | length }}
{{ 'aBc' | upper }}|{{ 'aBc' | lower }}|{{ 'hello wORLD-foo bar' | title }}|{{ 'hello wORLD' | capitalize }}|{{ 5 | upper }}|{{ '(a [b {c <d' | title }}
{{ missing | default('x') }}|{{ v.e | default('x') }}|{{ v.e | default('x', true) }}|{{ v.e | d('x', boolean=true) }}|{{ missing | default }}|{{ v.z | default('y') }}|{{ missing.a | default('q') if false else 'r' }}
{{ v | tojson }}|{{ v.d | tojson(indent=2) }}|{{ 'é"\\/\n\t\x01\x7f<>&' | tojson }}|{{ [1.0, 2.5, true, none] | tojson }}|{{ [] | tojson(indent=4) }}|{{ {} | tojson }}|{{ [[], {}] | tojson(indent=1) }}
{{ v.d | tojson(false, 2) }}|{{ v.u | tojson(false) }}|{{ [1] | tojson(none, none, none, false) }}|{{ v.l | tojson(indent=0) }}
{{ 'abc' | list }}|{{ v.d | list }}|{{ v.l | first }}|{{ v.l | last }}|{{ [] | first }}|{{ 'abc' | first }}|{{ 'abc' | last }}|{{ v.d | last }}
{{ [1, 'b', none] | join }}|{{ [1, 2] | join(', ') }}|{{ 'abc' | join('-') }}|{{ missing | join('x') }}|{{ ['a'] | join(d='/') }}
{{ 'aXbXc' | replace('X', '--') }}|{{ 'aXbXc' | replace('X', '', 1) }}|{{ 'abc' | replace('', '.') }}|{{ 101 | replace('0', 'o') }}|{{ '' | replace('', 'x') }}
{{ 5 | string + 'a' }}|{{ '12' | int }}|{{ 'x' | int }}|{{ 'x' | int(9) }}|{{ '3.7' | int }}|{{ 3.7 | int }}|{{ -3.7 | int }}|{{ ' 8 ' | int }}|{{ none | int }}|{{ true | int }}|{{ '' | int }}
{{ [{'r': 'a', 'x': 1}, {'r': 'b'}] | selectattr('r', 'equalto', 'b') | list }}|{{ [{'r': 'a'}, {'x': 'b'}] | selectattr('x') | list | length }}|{{ [{'r': 'a'}, {'x': 'b'}] | rejectattr('x', 'defined') | list }}|{{ [{'r': 'a'}, {'r': 'b'}] | map(attribute='r') | join(',') }}
{{ [1, 2, 3] | select('odd') | list }}|{{ [1, 0, ''] | select | list }}|{{ [1, 2, 1] | reject('equalto', 1) | join(',') }}|{{ [0, 1] | reject | list }}|{% if false %}{{ 1 | sort }}{% endif %}
{{ v.s.strip() }}|{{ v.s.lstrip() }}|{{ v.s.rstrip() }}|{{ 'xyaxy'.strip('yx') }}|{{ 'né'.rstrip('é') }}|{{ '\n a \n'.strip('\n') }}|{{ v.s.strip().upper() }}|{{ 'AB'.lower() }}|{{ "they're Bill's 3rd".title() }}|{{ 'aB cD'.capitalize() }}
{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith('bc') }}|{{ 'abc'.startswith(('x', 'a')) }}|{{ 'abc'.endswith('x') }}|{{ 'abc'.find('c') }}|{{ 'né日'.find('日') }}|{{ 'abc'.find('x') }}|{{ 'abc'.removeprefix('a') }}|{{ 'abc'.removesuffix('c') }}|{{ '-'.join(['a', 'b']) }}
{{ 'a,b,c'.split(',') }}|{{ 'a,b,c'.split(',', 1) }}|{{ ' a  b '.split() }}|{{ ' a  b c '.split(none, 1) }}|{{ 'a</t>b'.split('</t>')[-1] }}|{{ ''.split(',') }}|{{ ''.split() }}|{{ 'aXb'.replace('X', 'YY') }}|{{ 'aXbX'.replace('X', 'Y', 1) }}
{{ v.d.items() | list }}|{{ v.d.keys() | list }}|{{ v.d.values() | list }}|{{ v.d.get('a') }}|{{ v.d.get('q') }}|{{ v.d.get('q', 'z') }}|{{ v['d'].get('b')[0] }}|{{ {'items': 5}['items'] }}|{{ dict(a=1, b=2) }}
{% for i in [1, 2, 3] %}{{ i }}{{ ',' if not loop.last }}{% endfor %}
{% for k, w in v.d.items() %}{{ k }}={{ w }};{% endfor %}|{% for (a, b) in [(1, 2), [3, 4]] %}{{ a + b }} {% endfor %}
{% for c in v.u %}{{ loop.index }}{{ c }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}
{% for i in [1, 2, 2, 3] %}{{ loop.previtem | default('-') }}<{{ i }}>{{ loop.nextitem if loop.nextitem is defined else '-' }}{{ loop.index0 }} {% endfor %}
{% for i in [] %}a{% else %}none{% endfor %}|{% for i in missing %}a{% else %}b{% endfor %}|{% for i in v.d %}{{ i }}{% else %}b{% endfor %}
{% for i in range(5) if i % 2 == 0 %}{{ i }}{{ loop.last }}{% endfor %}|{% for i in range(2, 8, 3) %}{{ i }} {% endfor %}|{% for i in range(3, 0, -1) %}{{ i }}{% endfor %}
{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in [1, 2] %}{% for j in [3, 4] %}{{ i }}{{ j }}{{ loop.index }} {% endfor %}{{ loop.index }}{% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 1 %}{{ x }} {% endfor %}{{ x }}
{% set ns = namespace(n=0, s='') %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.n }}{{ ns.s }}{{ ns.q is defined }}|{{ ns['n'] }}
{% set a, b = 1, 'z' %}{{ a }}{{ b }}|{% set t = 1, 2 %}{{ t }}|{% set q %}block {{ a }}{% endset %}[{{ q }}]
{% if false %}a{% elif 1 %}b{% else %}c{% endif %}|{% if none %}a{% elif [] %}b{% else %}c{% endif %}|{% if 'x' == 'x' and not false %}y{% endif %}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}|{% for i in [1] %}{% if true %}{% set y = 5 %}{% endif %}{{ y }}{% endfor %}{{ y is defined }}
{% macro m(a, b='d', c=none) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(c=3, a=1) }}{{ m('x', b='y') | upper }}
{% set g = 'out' %}{% macro m() %}{{ g }}{{ i is defined }}{% endmacro %}{% for i in [1] %}{% set g = 'in' %}{{ m() }}{% endfor %}{% set g = 'late' %}{{ m() }}
{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}|{% macro e() %}{% endmacro %}[{{ e() }}]
{{ strftime_now('%d %b %Y') }}|{{ strftime_now("%Y-%m-%d %H:%M:%S %A %B %j %%") }}
{{ raise_exception('no ' + 'way') }}
{{ missing.x }}
{{ missing['x'] }}
{{ 'a' + 1 }}
{{ 1 + none }}
{{ missing + 1 }}
{{ none | length }}
{{ 1 < 'a' }}
{{ 1 / 0 }}
{{ 1 in 'abc' }}
{% for i in none %}{% endfor %}
{% for i in 5 %}{% endfor %}
{% for a, b in [[1]] %}{% endfor %}
{{ ''.split('') }}
{{ none.x.y }}
{{ missing() }}
{{ missing | tojson }}
{{ v.l.append(1) }}
{% if true %}
{% if %}
{{ }}
{{ 1
{% for x %}{% endfor %}
{% endfor %}
{{ 'a }}
{{ [1, 2 }}
{{ a b }}
a {{- ' b ' -}} c|a {%- if true -%} b {%- endif -%} c|{{ 1 -}}   {{ 2 }}|{#- c -#}  x
a {#- gone -#} b|a {# gone #} b|{{ {'a': {'b': 1}}}}|{{ '}}' }}|{{ '%}' }}|{% set x = '{{' %}{{ x }}|{ { }} %} #}
"""

BLOCK_SNIPPETS = [
    "a\n  {% if true %}\nb\n  {% endif %}\nc\n", "  {% if true %}x{% endif %}  \n  y", "{% if true %}\n\n\nx{% endif %}\n\n",
    "a  {% if true %}  b  {% endif %}  c\n", "a\n\t {%+ if true %}\nb\n  {%- endif +%}\nc", "x\n  {# comment #}\ny\n  {#- c -#}\n  z\n",
    "x\n  {{ 1 }}\ny\n", "x\r\ny\rz\r\n", "x\n\n", "\n", "", "   \n  {% set a = 1 %}  \n{{ a }}\n  ", "{{- 1 -}}\n\n {{- 2 -}} \n",
    "{%- for i in [1, 2] -%}\n  {{ i }}\n{%- endfor -%}\n", "{% for i in [1, 2] %}\n  - {{ i }}\n{% endfor %}\nend\n",
    "a\n   {%- if true %}\n b\n   {%- endif %}\n c", "{{ 'a\nb' }}\n{{ \"x\\\ny\" }}", "\u00a0{% if true %}\u00a0{%- endif %}\u2003x",
    "{% if true -%}\n\n   x{% endif %}\n   {% if true %}y{% endif %}", "{# a #}\n{# b #}\n  {# c #}\nx", "{#\n{% if %}\n#}x", "a{##}b{#-#} c",
    "{% generation %}a{% endgeneration %}", "{% for i in [1, 2] %}x{% generation %}é{{ i }}{% endgeneration %}y{% endfor %}",
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% for i in [1] %}{% generation %}{{ loop.index }}{{ i }}{% endgeneration %}{% endfor %}",
]


def built_in_templates():
    """The seven templates as built_in_templates.cpp puts them together."""
    source = (OUT.parent.parent / "src" / "text" / "built_in_templates.cpp").read_text()
    parts = dict(re.findall(r'string_view (k\w+) = R"\((.*?)\)";', source, re.S))
    result = {}
    for name, constant in parts.items():
        if name in ("kTextMacro", "kTurns"):
            continue
        turns = parts["kTurns"] if "turns" in constant else ""
        result[name[1:].lower()] = parts["kTextMacro"] + turns + constant
    return result


def cases(template, chats):
    """For each conversation the text's hash and the spans in bytes, or null where mora has to refuse:
    where Jinja fails, and where a template that takes strings only would write a list of other than ASCII as Python does."""
    result = []
    for i, chat in enumerate(chats):
        made = render(template, chat["messages"], add_generation_prompt=chat["add_generation_prompt"], **TOKENS)
        listed = made is not None and "[{'type'" in made[0]
        if made is None or (listed and not str(chat["messages"]).isascii()):
            result.append(None)
            continue
        text, spans = made
        entry = {"sha256": hashlib.sha256(text.encode()).hexdigest()[:24]}
        if i < 5:
            entry["text"] = text
        if spans:
            entry["spans"] = [[len(text[:a].encode()), len(text[:b].encode())] for a, b in spans]
        result.append(entry)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="a model folder; prints instead of writing")
    folder = parser.parse_args().folder
    chats = conversations(72)
    if folder:
        template = (Path(folder) / "chat_template.jinja").read_text()
        json.dump({"time": TIME, "tokens": TOKENS, "conversations": chats, "families": {
            "folder": {"template": template, "cases": cases(template, chats)}}}, sys.stdout)
        return
    snippets = []
    for template in [VALUES + line for line in SNIPPETS.strip("\n").split("\n")] + BLOCK_SNIPPETS:
        made = render(template, [], add_generation_prompt=False, **TOKENS)
        entry = {"template": template, "text": made[0] if made else None}
        snippets.append(entry)
    out = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "time": TIME,
        "tokens": TOKENS,
        "conversations": chats,
        "families": {n: {"template": t, "cases": cases(t, chats)} for n, t in FAMILIES.items()},
        "built_in": {n: {"cases": cases(t, chats)} for n, t in built_in_templates().items()},
        "snippets": snippets,
    }
    (OUT / "chat.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
