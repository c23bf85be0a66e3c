"""Types as text, what may stand for what, and their least common type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    INT,
    JSON,
    STR,
    UNKNOWN,
    Enum,
    ListOf,
    Object,
    Optional,
    Primitive,
    Type,
    assignable,
    join,
    mismatch,
    type_of,
)
from lmprog.compiler.types.text import TypeTextError, read_type

TYPES: st.SearchStrategy[Type] = st.recursive(
    st.sampled_from([STR, INT, FLOAT, BOOL, JSON, UNKNOWN, Enum(("a", "b")), Enum(("a",)), Enum(("c",))]),
    lambda inner: st.one_of(
        inner.map(ListOf),
        inner.filter(lambda kind: not isinstance(kind, Optional)).map(Optional),
        st.tuples(inner, inner).map(lambda kinds: Object((("x", kinds[0]), ("y", kinds[1])))),
    ),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("str", STR),
        ("int?", Optional(INT)),
        ("int??", Optional(INT)),
        ("list[str]?", Optional(ListOf(STR))),
        (" list[ list[float?] ] ", ListOf(ListOf(Optional(FLOAT)))),
        ("{a: str, b: {c: int?}}", Object((("a", STR), ("b", Object((("c", Optional(INT)),)))))),
        ("list[{a: list[str], e: {enum: [x, y z]}}]", ListOf(Object((("a", ListOf(STR)), ("e", Enum(("x", "y z"))))))),
    ],
)
def test_texts(text: str, kind: Type) -> None:
    assert read_type(text, Primitive) == kind


@pytest.mark.parametrize(
    "text",
    ["", "?", "list[", "list[]", "list[str", "str]", "{a}", "{a: str", "{a: str,}", "{a: str, a: int}", "list[" * 99],
)
def test_texts_that_are_no_types(text: str) -> None:
    with pytest.raises(TypeTextError):
        read_type(text, Primitive)


@given(TYPES, TYPES)
def test_both_may_stand_for_their_join(left: Type, right: Type) -> None:
    found = join(left, right)
    if found is not None:
        assert assignable(left, found) and assignable(right, found)
    if assignable(left, right):
        assert found is not None


@given(TYPES)
def test_a_type_stands_for_itself(kind: Type) -> None:
    assert assignable(kind, kind)
    assert join(kind, kind) == kind


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=6,
    )
)
def test_a_value_fits_the_type_that_is_found_for_it(value: object) -> None:
    assert mismatch(value, type_of(value)) is None


@pytest.mark.parametrize(
    ("source", "target", "may"),
    [
        (Enum(("a",)), STR, True),
        (STR, Enum(("a",)), False),
        (INT, FLOAT, True),
        (FLOAT, INT, False),
        (BOOL, INT, False),
        (STR, Optional(STR), True),
        (Optional(STR), STR, False),
        (ListOf(INT), ListOf(FLOAT), True),
        (STR, JSON, True),
        (JSON, STR, False),
        (UNKNOWN, INT, True),
    ],
)
def test_what_converts(source: Type, target: Type, may: bool) -> None:
    assert assignable(source, target) is may


@pytest.mark.parametrize("kind", [STR, JSON, Enum(("a",)), ListOf(STR), ListOf(Enum(("a",))), Object((("a", STR),))])
@pytest.mark.parametrize("within", [list, dict])
def test_a_value_of_any_depth_is_refused_in_a_few_words(kind: Type, within: type) -> None:
    value: object = "x"
    for _ in range(5_000):
        value = [value] if within is list else {"a": value}
    said = mismatch(value, kind)
    assert said is not None
    assert len(said) < 100
