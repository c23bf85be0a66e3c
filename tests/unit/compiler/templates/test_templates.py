"""Templates render values as text, reach nothing else, and know their constant head."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from lmprog.compiler.templates.compiled import RenderError, Template
from lmprog.compiler.templates.types import TemplateTyper
from lmprog.compiler.types.lattice import BOOL, JSON, STR, ListOf, Object, Optional

NAMES = {"text": STR, "words": ListOf(STR), "page": Object((("title", STR),)), "hint": Optional(STR), "any": JSON}
VALUES: dict[str, Any] = {"text": "hello", "words": ["a", "b"], "page": {"title": "T"}, "hint": None, "any": {"a": 1}}

SSTI = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ text.__class__ }}",
    "{{ text['__class__'] }}",
    "{{ text|attr('__class__') }}",
    "{{ text|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ range.__class__ }}",
    "{{ config.items() }}",
    "{{ request.application.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ url_for.__globals__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.popen('id') }}",
    "{% from 'os' import popen %}",
    "{% extends '/etc/passwd' %}",
    "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{{ m() }}",
    "{% call text.upper() %}{% endcall %}",
    "{{ text.format(text) }}",
    "{{ '{0.__class__}'.format(text) }}",
    "{{ '%s'|format(text.__class__) }}",
    "{{ words|map(attribute='__class__')|list }}",
    "{{ words|selectattr('__class__')|list }}",
    "{{ words|groupby('__class__') }}",
    "{{ words|sort(attribute='__class__') }}",
    "{{ words.append('c') }}",
    "{{ page.update({'title': 'x'}) }}",
    "{% set page.title = 'x' %}",
    "{% set ns = namespace(x=1) %}{% set ns.x = 2 %}",
    "{{ [].append }}",
    "{{ text.join.__self__ }}",
    "{{ (text ~ '') .__class__ }}",
    "{{ any.__class__ }}",
    "{{ any.get.__globals__ }}",
    "{{ loop.__class__ }}",
    "{% for x in words %}{{ loop.__class__ }}{{ loop.cycle.__globals__ }}{% endfor %}",
    "{{ dict(a=1) }}",
    "{{ text * 100000000000 }}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ range(10000000000)|list }}",
    "{{ debug() }}",
    "{% debug %}",
]
SECRETS = ("class '", "function", "root:", "uid=", "module 'os'", "__globals__", "builtin")


@pytest.mark.parametrize("payload", SSTI)
def test_payloads_are_refused_or_render_as_text(payload: str) -> None:
    typer = TemplateTyper(payload, NAMES)
    typer.check()
    try:
        rendered = Template(payload).render(VALUES)
    except RenderError:
        rendered = ""
    assert not any(secret in rendered for secret in SECRETS), rendered
    assert typer.problems or rendered == payload


@pytest.mark.parametrize("payload", SSTI)
def test_payloads_as_values_are_text(payload: str) -> None:
    assert Template("<{{ text }}>").render({"text": payload}) == f"<{payload}>"


def test_values_stay_as_they_are() -> None:
    assert VALUES["words"] == ["a", "b"] and VALUES["page"] == {"title": "T"}


def problems(text: str) -> list[str]:
    typer = TemplateTyper(text, {**NAMES, "sure": BOOL})
    typer.check()
    return [problem.code for problem in typer.problems]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("{{ text }}", []),
        ("{{ txet }}", ["LMP201"]),
        ("{% if other is defined %}{{ other }}{% else %}{{ text }}{% endif %}", []),
        ("{% if other is not defined %}{{ text }}{% else %}{{ other }}{% endif %}", []),
        ("{% if other is defined and other == 'x' %}x{% endif %}", []),
        ("{{ other|default('x') }}", []),
        ("{% set a = text %}{{ a }}", []),
        ("{% if text %}{% set a = text %}{% endif %}{{ a }}", ["LMP201"]),
        ("{% if text %}{% set a = text %}{% else %}{% set a = 'n' %}{% endif %}{{ a }}", []),
        ("{% for w in words %}{% set b = w %}{{ b }}{% endfor %}", []),
        ("{% for w in words %}{% set b = w %}{% endfor %}{{ b }}", ["LMP201"]),
        ("{% for k, v in page|items %}{{ k }}{% endfor %}", []),
        ("{% with a = text %}{{ a }}{% endwith %}{{ a }}", ["LMP201"]),
        ("{{ words }}", ["LMP205"]),
        ("{{ words|tojson }}{{ words|join(', ') }}{{ words|length }}{{ words[0] }}{{ words|first }}", []),
        ("{{ words|upper }}", ["LMP205"]),
        ("{{ sure }}", ["LMP205"]),
        ("{{ 'yes' if sure else 'no' }}", []),
        ("{{ hint }}", ["LMP205"]),
        ("{{ hint if hint else 'none' }}", []),
        ("{{ hint or 'none' }}", []),
        ("{% if hint is none %}x{% else %}{{ hint }}{% endif %}", []),
        ("{% if not hint %}x{% elif sure %}{{ hint }}{% endif %}", []),
        ("{{ page.items }}", ["LMP205"]),
        ("{{ page.titel }}", ["LMP203"]),
        ("{{ text.upper().strip() }}", []),
        ("{{ text.upper }}", ["LMP205"]),
        ("{{ text ~ words }}", ["LMP205"]),
        ("{{ words|random }}", ["LMP802"]),
        ("{% raw %}{{ nothing }}{% endraw %}", []),
        ("{# {{ nothing }} #}", []),
        ("{{ text", ["LMP101"]),
    ],
)
def test_problems(text: str, codes: list[str]) -> None:
    assert problems(text) == codes


def test_an_undefined_value_is_an_error() -> None:
    with pytest.raises(RenderError, match="nothing"):
        Template("{{ nothing }}").render({})


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("Rules. {{ text }} end", "Rules. "),
        ("{{ fixed }} then {{ text }}", "F then "),
        ("{% if fixed %}yes{% endif %}{% for x in words %}{{ x }}{% endfor %}", "yes"),
        ("{% set a = text %}{{ fixed }}", ""),
        ("{{ fixed }}", "F"),
        ("a\n{% if text %}b{% endif %}", "a\n"),
    ],
)
def test_the_head_is_a_prefix_of_every_text(text: str, head: str) -> None:
    varying = frozenset({"text", "words"})
    template = Template(text)
    found = template.render_head({"fixed": "F"}, varying)
    assert found == head
    for value in ("", "abc", "\n"):
        assert template.render({"fixed": "F", "text": value, "words": [value]}).startswith(found)


def test_a_template_travels_between_processes() -> None:
    template = pickle.loads(pickle.dumps(Template("{{ text }}!", frozenset({"text"}))))
    assert template.render({"text": "a"}) == "a!"


@pytest.mark.parametrize(
    "text",
    ['[1, 2]|batch(100000000, "x")|list', "[1]|slice(10 * 100000000)|list", "5|round(-1000000000)", '"a"|indent(1000000000)',
     "5|round(precision=-1000000000)", "[1]|tojson(1000000000)"],
)  # fmt: skip
def test_a_filter_makes_no_more_than_a_prompt_may_need(text: str) -> None:
    with pytest.raises(RenderError, match="takes numbers up to"):
        Template(f"{{{{ {text} }}}}").render({})


@pytest.mark.parametrize(
    "text",
    ["long|replace('', long)", "long|replace(old='a', new=long)", "long.replace('a', long)", "[long, long]|join(far)",
     "far.join([long, long, long])", "['a', 'b', 'c']|join(d=far)"],
)  # fmt: skip
def test_a_text_that_grows_without_a_bound_is_refused(text: str) -> None:
    with pytest.raises(RenderError, match="would be longer than 10,000,000 characters"):
        Template(f"{{{{ {text} }}}}").render({"long": "a" * 4_000, "far": "b" * 6_000_000})


def test_replace_and_join_are_what_they_were() -> None:
    text = "{{ 'aXa'|replace('X', 'y') }} {{ 'aa'.replace('a', 'b', 1) }} {{ ['a', 1]|join('-') }} {{ [1, 2]|join }}"
    text += " {{ [{'k': 1}, {'k': 2}]|join(',', attribute='k') }} {{ 5|replace('5', '6') }} {{ ','.join(['a', 'b']) }}"
    assert Template(text).render({}) == "aya ba a-1 12 1,2 6 a,b"
