"""Dotted names that are found by their letters are those that the compiler finds in the syntax tree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import meta

from lmprog.compiler.expressions.parser import CONSTANTS, ROOTS, parse, references
from lmprog.compiler.shape import WRAPPED
from lmprog.compiler.templates.compiled import ENVIRONMENT
from lmprog.compiler.templates.compiled import parse as parse_template
from lmprog.compiler.types.values import scalars
from lmprog.editing.chains import in_expression, in_template
from lmprog.editing.session import Session
from tests.unit.lmprog.editing.editor_programs import PROGRAMS


def read(text: str) -> set[tuple[str, ...]]:
    return {names for chain in in_expression(text) if (names := tuple(part.name for part in chain))[0] in ROOTS}


def test_all_expressions_of_all_programs_read_the_same_names() -> None:
    count = 0
    for path in PROGRAMS:
        root = Session(imports=False).parsed(path)
        assert root is not None
        for scalar in scalars(root):
            wrapped = WRAPPED.match(scalar.value) if isinstance(scalar.value, str) else None
            if wrapped is not None:
                count += 1
                assert read(wrapped[1]) == set(references(parse(wrapped[1].strip())))
    assert count > 150


@pytest.mark.parametrize(
    "text",
    [
        'steps["a"].b + inputs.x',
        "join([steps.a.b, \"steps.no.no\"], 'vars.no')",
        "inputs.x if len(state.y) > 1.5 else default(item.z, 'a')",
        'inputs.words[0].word == "\\" inputs.no"',
        "[inputs . spaced, vars\n.k]",
        "inputs.class",
    ],
)
def test_expressions_read_the_same_names(text: str) -> None:
    known = {name for name in references(parse(text)) if name[0] not in CONSTANTS}
    # Behind an index the compiler has no name, and the letters have the same.
    assert read(text) == known


@pytest.mark.parametrize(
    "text",
    [
        "{{ question }} and {# {{ no }} #} {% raw %}{{ no }}{% endraw %}",
        "{% for part in parts %}{{ part.text | upper }}, {% endfor %}{{ 'no' ~ more }}",
        "{{ a.b | join(d=c) }} {% if d is defined and e %}{{ 'x }} y' }}{% endif %}",
    ],
)
def test_templates_read_at_least_what_jinja_finds(text: str) -> None:
    found = {chain[0].name for chain in in_template(text)}
    wanted = meta.find_undeclared_variables(parse_template(text))
    assert wanted <= found and "no" not in found
    assert ENVIRONMENT is not None


@given(st.text(alphabet=st.sampled_from("ab.[]\"'{}%| \\#-é1"), max_size=30))
def test_half_typed_text_has_names_at_their_places(text: str) -> None:
    for found in (in_expression(text), in_template(text)):
        for chain in found:
            assert all(text[part.offset : part.end] == part.name for part in chain)


@pytest.mark.parametrize(
    ("text", "last"),
    [("inputs.", "inputs"), ("steps.a.b + (", "b"), ("'open' + inputs.x", "x"), ("inputs.x + 'open steps.y", "x")],
)
def test_what_is_typed_before_a_slip_is_read(text: str, last: str) -> None:
    assert [*in_expression(text)][-1][-1].name == last
