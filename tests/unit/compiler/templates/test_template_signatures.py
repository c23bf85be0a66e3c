"""The table of filters, tests and methods agrees with jinja: what check accepts renders, what it refuses does not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lmprog.compiler.templates.compiled import ENVIRONMENT, RenderError, Template
from lmprog.compiler.templates.signatures import FILTER_SIGNATURES, METHOD_SIGNATURES, TEST_SIGNATURES
from lmprog.compiler.templates.trial import trial
from lmprog.compiler.templates.types import TemplateTyper
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, JSON, MESSAGES, STR, Enum, ListOf, Object, Optional, Type
from lmprog.compiler.types.samples import combinations, samples

NAMES: dict[str, Type] = {
    "text": STR,
    "n": INT,
    "f": FLOAT,
    "b": BOOL,
    "xs": ListOf(STR),
    "ns": ListOf(INT),
    "o": Optional(STR),
    "obj": JSON,
    "kind": Enum(("a", "b")),
    "rec": Object((("a", STR), ("n", INT), ("c", Optional(STR)))),
    "recs": ListOf(Object((("k", STR),))),
    "turns": MESSAGES,
}
ARGUMENTS = (
    "",
    "n",
    "text",
    "xs",
    "2",
    "0",
    "'a'",
    "'k'",
    "none",
    "2, 'a'",
    "'k', 'eq', text",
    "1, 2, 3",
    "attribute='k'",
)


def said(text: str) -> list[str]:
    """Return the codes of what check says, those of the trial for all values with an exclamation mark."""
    typer = TemplateTyper(text, NAMES)
    typer.check()
    found = [problem.code for problem in typer.problems]
    if not found and typer.tree is not None:
        failed = trial(text, typer.tree, NAMES, {})
        if failed is not None:
            found.append("LMP208!" if failed.always else "LMP208")
    return found


def rendered(text: str) -> tuple[int, int]:
    """Return for how many choices of the samples jinja renders the template, and for how many it does not."""
    typer = TemplateTyper(text, NAMES)
    typer.check()
    template, good, bad = Template(text), 0, 0
    for values in combinations({name: samples(NAMES[name]) for name in typer.variables}):
        try:
            template.render(values)
            good += 1
        except RenderError:
            bad += 1
    return good, bad


REFUSED = (" % ", "divisibleby")
"""Python's formatting of texts, which is no arithmetic of templates."""


def agrees(text: str) -> None:
    """Assert that check is silent only where all samples render, and an error only where ordinary ones do not."""
    codes = said(text)
    if not codes:
        good, bad = rendered(text)
        assert bad == 0, f"{text}: check says nothing, and {bad} of {good + bad} samples fail"
    elif set(codes) <= {"LMP203", "LMP208!"} and not any(word in text for word in REFUSED):
        typer = TemplateTyper(text, NAMES)
        typer.check()
        with pytest.raises(RenderError):
            Template(text).render({name: samples(NAMES[name])[0] for name in typer.variables})
            print(f"{text} renders, and check says {codes}")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FILTER_SIGNATURES))
def test_filters(name: str) -> None:
    for value in NAMES:
        agrees(f"{{{{ {value}|{name}|tojson }}}}")
        for arguments in ARGUMENTS if value in ("text", "n", "xs", "rec", "recs") else ():
            agrees(f"{{{{ {value}|{name}({arguments})|tojson }}}}")
        agrees(f"{{% for x in {value}|{name} %}}{{% endfor %}}")
        agrees(f"{{{{ [{value}]|map('{name}')|list|tojson }}}}")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name in TEST_SIGNATURES if name.isidentifier()))
def test_tests(name: str) -> None:
    for value in NAMES:
        agrees(f"{{% if {value} is {name} %}}a{{% endif %}}")
        for arguments in ARGUMENTS[1:] if value in ("text", "n", "xs", "o") else ():
            agrees(f"{{% if {value} is {name}({arguments}) %}}a{{% endif %}}")
        agrees(f"{{{{ [{value}]|select('{name}')|list|tojson }}}}")


@pytest.mark.parametrize("name", sorted(METHOD_SIGNATURES))
def test_methods(name: str) -> None:
    for value in ("text", "kind", "o", "n", "xs"):
        for arguments in (*ARGUMENTS, "'a', 'b'", "''", "'a', 1, 2"):
            agrees(f"{{{{ {value}.{name}({arguments})|tojson }}}}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "operator", ["+", "-", "*", "/", "//", "%", "~", "<", ">=", "==", "!=", "in", "not in", "and", "or"]
)
def test_operators(operator: str) -> None:
    names = [name for name in NAMES if name != "b"]  # Nobody counts with a bool, though jinja would.
    for left in names:
        agrees(f"{{{{ (-{left})|tojson }}}}")
        for right in names:
            agrees(f"{{% if {left} %}}{{{{ ({left} {operator} {right})|tojson }}}}{{% endif %}}")


def test_the_table_is_the_allow_list() -> None:
    assert set(FILTER_SIGNATURES) == set(ENVIRONMENT.filters)
    assert set(TEST_SIGNATURES) == set(ENVIRONMENT.tests)


def expression(rng: random.Random, depth: int = 0) -> str:
    if depth > 2 or rng.random() < 0.3:
        return rng.choice(
            [*NAMES, "1", "0", "'a'", "rec.c", "rec.a", "xs[0]", "text[3]", "recs[0].k", "[]", "[text, 'a']"]
        )
    inner: Any = lambda: expression(rng, depth + 1)  # noqa: E731
    kind = rng.randrange(6)
    if kind == 0:
        return f"({inner()} {rng.choice(['+', '-', '/', '//', '%', '~', '<', '==', 'in', 'and', 'or'])} {inner()})"
    if kind == 1:
        return f"({inner()} if {inner()} else {inner()})"
    if kind == 2:
        return f"{rng.choice(list(NAMES))}[{inner()}]"
    if kind == 3:
        return f"text.{rng.choice(sorted(METHOD_SIGNATURES))}({', '.join(inner() for _ in range(rng.randrange(3)))})"
    return f"({inner()})|{rng.choice(sorted(FILTER_SIGNATURES))}({', '.join(inner() for _ in range(rng.randrange(2)))})"


@pytest.mark.parametrize("seed", range(4))
def test_random_templates(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(120):
        text = f"{{{{ ({expression(rng)})|tojson }}}}"
        if rng.random() < 0.5:
            text = f"{{% if {expression(rng)} %}}{text}{{% endif %}}"
        if not said(text):
            assert rendered(text)[1] == 0, text


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ text|indent(1000000000) }}",
        "{{ xs|batch(1000000000, 'x')|list|tojson }}",
        "{{ xs|slice(1000000000)|list|tojson }}",
        "{% set a = text ~ 'aaaaaaaaaa' %}" + "{% set a = a ~ a %}" * 60 + "{{ a|first }}",
        "{% set a = [text] %}" + "{% set a = [a, a] %}" * 60 + "{{ a|tojson(1) }}",
        "{% set a = text %}" + "{% set a %}{{ a }}{{ a }}x{% endset %}" * 60 + "{{ a|first }}",
        "{% set a = text %}" + "{% set a = a.replace('', a ~ 'xx') %}" * 60 + "{{ a|first }}",
    ],
)
def test_a_trial_ends(text: str) -> None:
    said(text)
