"""The places that the editor knows are places of the language, and no expression or layout of the language is forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lmprog.compiler.language import PROGRAM
from lmprog.compiler.shape import Anything, Choice, Either, Expr, Lazy, ListOf, MapOf, Nullable, Record, Shape, Text
from lmprog.compiler.yaml.source import Mapping, Scalar, Sequence
from lmprog.editing.grammar import BARE, KEYS, LAYOUTS, NAMED, PROGRAMS, At, Spot, spot_of


def spot(at: At) -> Spot:
    """Return the place by its path, with a key of the author's choice or an index for each `*`."""
    keys: list[str | int] = []
    for part in at:
        shape = spot_of(tuple(keys)).chosen(Sequence)
        listed = isinstance(shape, ListOf) and part == "*"
        keys.append(0 if listed else "x" if part == "*" else part)
    return spot_of(tuple(keys))


@pytest.mark.parametrize("at", sorted(NAMED), ids=".".join)
def test_a_text_names_something(at: At) -> None:
    found = spot(at)
    assert found.at == at or at[-1] == "judge"  # options of stages are no part of the language's own shapes
    assert isinstance(found.chosen(Scalar), Text | Choice | Anything)


@pytest.mark.parametrize("at", sorted(KEYS), ids=".".join)
def test_keys_name_something(at: At) -> None:
    assert spot(at).at == at and isinstance(spot(at).chosen(Mapping), MapOf)


@pytest.mark.parametrize("at", sorted({*LAYOUTS, *PROGRAMS}), ids=".".join)
def test_layouts_and_programs_are_places(at: At) -> None:
    assert spot(at).at == at and isinstance(spot(at).chosen(Mapping), Record | Text)


def walked(shape: Shape, at: At, seen: frozenset[str] = frozenset()) -> Iterator[tuple[At, Shape]]:
    """Yield all places of the language with their shapes; a shape that holds itself is gone into once."""
    yield at, shape
    if isinstance(shape, Lazy):
        if shape.name not in seen:
            yield from walked(shape.shape(), at, seen | {shape.name})
    elif isinstance(shape, Record):
        for key, inner in shape.keys.items():
            steps = isinstance(inner, Lazy) and inner.name == "steps"
            yield from walked(inner, ("steps",) if steps else (*at, key), seen)
    elif isinstance(shape, MapOf | ListOf):
        yield from walked(shape.value if isinstance(shape, MapOf) else shape.item, (*at, "*"), seen)
    elif isinstance(shape, Either):
        for part in (shape.scalar, shape.sequence, shape.mapping):
            if part is not None:
                yield from walked(part, at, seen)
    elif isinstance(shape, Nullable):
        yield from walked(shape.shape, at, seen)


def test_every_expression_of_the_language_is_known() -> None:
    bare = {at for at, shape in walked(PROGRAM, ()) if isinstance(shape, Expr)}
    assert bare and bare <= BARE
    assert {at for at in BARE - bare if at[-1] != "value"} == set()


def test_every_layout_of_the_language_is_known() -> None:
    said = {at[:-1] for at, shape in walked(PROGRAM, ()) if shape.about.startswith("Jinja template of")}
    assert said == set(LAYOUTS)
