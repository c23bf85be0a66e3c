"""Outputs in replies: what is written is read back, what models get wrong is forgiven or refused, and nothing crashes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmprog.compiler.plan import Field
from lmprog.compiler.replies.formats import describe, write
from lmprog.compiler.replies.reading import read
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    IMAGE,
    INT,
    JSON,
    MESSAGES,
    STR,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
)

NASTY = st.text() | st.sampled_from(
    [
        "",
        " ",
        "null",
        "true",
        "7",
        "</a>",
        "<\\/a>",
        "<\\\\/a>",
        "<a>",
        "</b><a>x</a>",
        '{"a": 1}',
        "```json\n{}\n```",
        '"',
        "\\",
        "\r\n",
        "\u2028",
        "{{ x }}",
        "a,]",
        "\ud800",
    ]
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | FINITE | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3),
    max_leaves=6,
)
SIMPLE = {
    STR: NASTY,
    INT: st.integers(),
    FLOAT: FINITE | st.integers(-1000, 1000),
    BOOL: st.booleans(),
    JSON: ANYTHING,
    IMAGE: NASTY,
    MESSAGES: st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": NASTY}), max_size=2),
}
ENUMS = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4, unique=True).map(
    lambda values: Enum(tuple(values))
)


def types() -> st.SearchStrategy[Type]:
    return st.recursive(
        st.sampled_from(list(SIMPLE)) | ENUMS,
        lambda inner: (
            inner.map(ListOf)
            | inner.filter(lambda kind: not isinstance(kind, Optional)).map(Optional)
            | st.dictionaries(st.sampled_from(["x", "y", "z"]), inner, min_size=1, max_size=2).map(
                lambda fields: Object(tuple(fields.items()))
            )
        ),
        max_leaves=3,
    )


def values(kind: Type) -> st.SearchStrategy[Any]:
    if isinstance(kind, Enum):
        return st.sampled_from(kind.values)
    if isinstance(kind, ListOf):
        return st.lists(values(kind.item), max_size=3)
    if isinstance(kind, Optional):
        return st.none() | values(kind.inner)
    if isinstance(kind, Object):
        return st.fixed_dictionaries({name: values(inner) for name, inner in kind.fields})
    return SIMPLE[kind]


@st.composite
def replies(draw: st.DrawFn, names: tuple[str, ...]) -> tuple[dict[str, Field], dict[str, Any]]:
    kinds = {name: draw(types()) for name in names}
    return {name: Field(kind) for name, kind in kinds.items()}, {
        name: draw(values(kind)) for name, kind in kinds.items()
    }


def only_json_can_say(field: Field, value: Any) -> bool:
    """An optional text that is blank or `null`: nothing, outside of JSON."""
    blank = isinstance(value, str) and (not value.strip() or value.strip() == "null")
    return isinstance(field.type, Optional) and blank and field.type.inner != JSON


@pytest.mark.slow
@given(replies(("a", "b", "a_b")))
@example(({"a": Field(STR)}, {"a": "x</a>y"}))
@example(({"a": Field(STR), "b": Field(STR)}, {"a": "<b>no</b>", "b": "yes"}))
@example(({"a": Field(JSON)}, {"a": "7"}))
@example(({"a": Field(Optional(STR))}, {"a": "null"}))
def test_json_reads_what_it_writes(reply: Any) -> None:
    outputs, wanted = reply
    assert dict(read("json", outputs, write("json", outputs, wanted)).values) == wanted


@pytest.mark.slow
@given(replies(("a", "b", "a_b")))
@example(({"a": Field(STR)}, {"a": "x</a>y"}))
@example(({"a": Field(STR)}, {"a": "<\\/a>"}))
@example(({"a": Field(STR), "b": Field(STR)}, {"a": "<b>no</b>", "b": "yes"}))
@example(({"a": Field(ListOf(STR))}, {"a": ["</a>", "\\</a>"]}))
@example(({"a": Field(JSON)}, {"a": "7"}))
@example(({"a": Field(Enum((" a", "a")))}, {"a": " a"}))
def test_fields_reads_what_it_writes(reply: Any) -> None:
    outputs, wanted = reply
    expected = {name: None if only_json_can_say(outputs[name], value) else value for name, value in wanted.items()}
    reading = read("fields", outputs, write("fields", outputs, wanted))
    assert dict(reading.values) == expected
    assert reading.forgiven == ()


@pytest.mark.slow
@given(replies(("a",)))
@example(({"a": Field(JSON)}, {"a": "7"}))
def test_text_reads_what_it_writes(reply: Any) -> None:
    outputs, wanted = reply
    expected = {name: None if only_json_can_say(outputs[name], value) else value for name, value in wanted.items()}
    reading = read("text", outputs, write("text", outputs, wanted))
    assert dict(reading.values) == expected
    assert reading.forgiven == ()


@given(st.sampled_from(["text", "fields", "json"]), types(), st.text() | NASTY)
@example("json", JSON, "[" * 100_000)
@example("json", ListOf(JSON), '{"a": ' + "[" * 700 + "]" * 700 + "}")
@example("text", INT, "9" * 5000)
@example("text", JSON, "9" * 5000)
@example("text", FLOAT, "1e999")
@example("text", ListOf(FLOAT), "[NaN, 1e999, Infinity]")
@example("fields", STR, "<a><a></a></a><a>")
def test_any_reply_is_read_or_refused(format: Any, kind: Type, text: str) -> None:
    try:
        reading = read(format, {"a": Field(kind)}, text)
    except Unreadable as error:
        assert str(error)
        return
    json.dumps(reading.values, allow_nan=False)


@pytest.mark.parametrize(
    ("kind", "text", "value", "forgiven"),
    [
        (INT, " 12\n", 12, ()),
        (INT, "1,200", 1200, ("quotes or separators in a number",)),
        (FLOAT, "'3.5'", 3.5, ("quotes or separators in a number",)),
        (FLOAT, "2", 2.0, ()),
        (BOOL, "Yes.", True, ("case or quotes around a truth value",)),
        (BOOL, "false", False, ()),
        (
            Enum(("billing", "lost_parcel")),
            "Lost parcel.",
            "lost_parcel",
            ("case, quotes or punctuation around an enum value",),
        ),
        (Enum(("a", "A")), "A", "A", ()),
        (ListOf(STR), '["x"]', ["x"], ()),
        (
            ListOf(STR),
            'Sure:\n```json\n["x", "y,]",]\n```',
            ["x", "y,]"],
            ("a code fence around JSON", "a trailing comma in JSON"),
        ),
        (ListOf(INT), "The list is [1, 2].", [1, 2], ("words around JSON",)),
        (Optional(INT), "", None, ()),
        (Optional(INT), "null", None, ()),
        (Optional(INT), "4", 4, ()),
    ],
)
def test_what_is_forgiven(kind: Type, text: str, value: Any, forgiven: tuple[str, ...]) -> None:
    reading = read("text", {"a": Field(kind)}, text)
    assert reading.values == {"a": value}
    assert type(reading.values["a"]) is type(value)
    assert reading.forgiven == forgiven


@pytest.mark.parametrize(
    ("format", "kind", "text", "message"),
    [
        ("text", INT, "3.5", "a: '3.5' is not a whole number"),
        ("text", FLOAT, "many", "a: 'many' is not a number"),
        ("text", FLOAT, "nan", "a: 'nan' is not a number"),
        ("text", BOOL, "maybe", "a: 'maybe' is neither true nor false"),
        ("text", Enum(("x", "y")), "z", 'a: "z" is not one of x, y'),
        ("text", ListOf(INT), "[1, true]", "a: item 1: true is not a value of type int"),
        ("text", ListOf(INT), "none", "a holds no JSON"),
        ("fields", STR, "no sections", "the reply has no output 'a'"),
        ("json", STR, "[1]", "the reply is not a JSON object"),
        ("json", STR, '{"b": 1}', "the reply has no output 'a'"),
        ("json", INT, '{"a": true}', "a: true is not a value of type int"),
        ("json", FLOAT, '{"a": NaN}', "the reply holds JSON that cannot be read: NaN is no number"),
    ],
)
def test_what_is_refused(format: Any, kind: Type, text: str, message: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(format, {"a": Field(kind)}, text)
    assert str(caught.value) == message


def test_sections_that_are_not_closed() -> None:
    outputs = {"thoughts": Field(STR), "label": Field(STR)}
    reading = read("fields", outputs, "<thoughts>well\n<label>x")
    assert reading.values == {"thoughts": "well", "label": "x"}
    assert reading.forgiven == ("</thoughts> is missing", "</label> is missing")


def test_the_first_of_repeated_sections_counts() -> None:
    assert read("fields", {"a": Field(STR)}, "<a>1</a>\n<a>2</a>").values == {"a": "1"}


def test_json_in_words_of_its_own() -> None:
    reading = read("json", {"a": Field(INT)}, 'Here you are: {"a": "12"} as asked')
    assert reading.values == {"a": 12}
    assert reading.forgiven == ("words around JSON",)


def test_an_output_that_is_left_out_has_its_default() -> None:
    outputs = {"a": Field(STR), "b": Field(INT, default=4, has_default=True), "c": Field(Optional(STR))}
    assert read("fields", outputs, "<a>x</a>").values == {"a": "x", "b": 4, "c": None}
    assert write("json", outputs, {"a": "x"}) == '{"a": "x"}'


def test_descriptions() -> None:
    label = Field(Enum(("x", "y")))
    assert describe("text", {"a": Field(STR)}) == ""
    assert describe("text", {"the_label": label}) == "Reply with the the label and nothing else: one of x, y."
    assert describe("fields", {"why": Field(STR, about="A reason. "), "n": Field(Optional(INT))}) == (
        "Reply with these sections and nothing else:\n<why>A reason</why>\n<n>a whole number, or nothing</n>"
    )
    schema = json.loads(describe("json", {"a": label}).split("fields: ")[1])
    assert schema == {"a": {"type": "string", "enum": ["x", "y"]}}
    schema = json.loads(describe("json", {"a": Field(INT, about="How many.")}).split("fields: ")[1])
    assert schema == {"a": {"type": "integer", "description": "How many."}}


def test_the_word_that_stands_for_no_value_is_read_as_none() -> None:
    for kind in (STR, INT, FLOAT, BOOL, Enum(("x", "y")), ListOf(STR)):
        outputs = {"a": Field(Optional(kind))}
        word = describe("text", outputs).removesuffix(".").rsplit(", or ", 1)[1]
        assert read("text", outputs, word).values == {"a": None}


def test_numbers_keep_their_precision() -> None:
    for number in (0.1, 1e22, -0.0, 5e-324, math.pi, 2**53 + 1):
        kind = FLOAT if isinstance(number, float) else INT
        assert read("text", {"a": Field(kind)}, write("text", {"a": Field(kind)}, {"a": number})).values["a"] == number
