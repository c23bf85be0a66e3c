"""What is forgiven in replies and what is not: no value is made up, and what was passed over is always said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.compiler.plan import Field
from lmprog.compiler.replies.formats import write
from lmprog.compiler.replies.reading import read
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, JSON, STR, Enum, ListOf, Object, Type

TOPIC = Enum(("billing", "lost_parcel", "refund", "refund_late"))
LETTER = Enum(("A", "B", "C"))
TWO = {"thoughts": Field(STR), "the_label": Field(TOPIC)}


def refusal(format: Any, outputs: dict[str, Field], text: str, cut: bool = False) -> str:
    with pytest.raises(Unreadable) as caught:
        read(format, outputs, text, cut)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text", "value", "forgiven"),
    [
        (TOPIC, "**Label:** billing", "billing", "a label before an enum value"),
        (TOPIC, "The label is Billing.", "billing", "a label before an enum value"),
        (TOPIC, "I would say lost parcel, as nothing came", "lost_parcel", "words around an enum value"),
        (TOPIC, "a refund late one", "refund_late", "words around an enum value"),
        (TOPIC, "<think>a refund?</think>\n\nbilling", "billing", "a <think> block before the reply"),
        (TOPIC, "a refund, then</think>billing", "billing", "a <think> block before the reply"),
        (LETTER, "The answer is B.", "B", "a label before an enum value"),
        (BOOL, "Yes, it is.", True, "words around a truth value"),
        (BOOL, "**Answer:** False", False, "words around a truth value"),
        (INT, "The answer is 42.", 42, "words around a number"),
        (INT, "**1,234**", 1234, "quotes or separators in a number"),
        (INT, "3.0", 3, "a whole number with decimals"),
        (FLOAT, ".5.", 0.5, "quotes or separators in a number"),
        (STR, "<think>hm</think>\nyes", "yes", "a <think> block before the reply"),
        (ListOf(STR), "['a', 'b']", ["a", "b"], "other quotes than JSON's"),
        (Object((("x", INT),)), '[{"x": 1}]', {"x": 1}, "a list around a JSON object"),
    ],
)
def test_around_one_value(kind: Type, text: str, value: Any, forgiven: str) -> None:
    reading = read("text", {"a": Field(kind)}, text)
    assert (reading.values, reading.forgiven) == ({"a": value}, (forgiven,))
    assert type(reading.values["a"]) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (TOPIC, "billing or refund"),
        (TOPIC, "It is not billing."),
        (TOPIC, "It isn't a billing matter"),
        (TOPIC, "bill"),
        (LETTER, "A customer asks"),
        (Enum(("a b", "a_b")), "A B"),
        (BOOL, "No evidence of that"),
        (INT, "7 out of 10"),
        (INT, "7/10"),
        (INT, "$1.50"),
        (FLOAT, "85%"),
        (FLOAT, "3,14"),
        (FLOAT, "2024-05-01"),
    ],
)
def test_words_that_leave_a_choice_are_refused(kind: Type, text: str) -> None:
    assert refusal("text", {"a": Field(kind)}, text).startswith("a: ")


@pytest.mark.parametrize(
    ("text", "value", "forgiven"),
    [
        ("{'a': 'it', 'b': None}", "it", ("other quotes than JSON's", "a Python literal in JSON")),
        ('{"a": "x\ny"}', "x\ny", ("a line break in a text of JSON",)),
        ('{"a": 1, // one\n}', 1, ("a comment in JSON", "a trailing comma in JSON")),
        ('{"a": "// no # comment"}', "// no # comment", ()),
        ('{"a": 1', 1, ("a missing bracket at the end of JSON",)),
        ('{"a": [1, {"b": 2', [1, {"b": 2}], ("a missing bracket at the end of JSON",)),
        ("{a: 1}", 1, ("a key without quotes in JSON",)),
        ('{"a": 1 "b": 2}', 1, ("a missing comma in JSON",)),
        ('{"a": "a\\_b"}', "a\\_b", ("an escape in JSON that JSON does not have",)),
        ('As in [x], {"a": 2}', 2, ("words around JSON",)),
        ('\ufeff{"a": 2}', 2, ()),
        ('{"A": 3}', 3, ("another spelling of a field's name",)),
        ('<think>{"a": 1}?</think>{"a": 2}', 2, ("a <think> block before the reply",)),
        ('{"a": "</think>"}', "</think>", ()),
    ],
)
def test_json(text: str, value: Any, forgiven: tuple[str, ...]) -> None:
    reading = read("json", {"a": Field(JSON)}, text)
    assert (reading.values, reading.forgiven) == ({"a": value}, forgiven)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": "x', "a text in it does not end"),
        ('{"a": tru', "tru has no quotes"),
        ('{"a": ', "it ends before a value"),
        ('{"a": 1,', "a key is missing at character 8"),
        ('{"a"', "the key 'a' has no value"),
        ('{"a": [1}', "a comma or ] is missing at character 8"),
        ('{"a": Infinity}', "Infinity is no number"),
        ('{"a": 1e999}', "1e999 is no number"),
    ],
)
def test_json_that_lacks_something_is_refused(text: str, said: str) -> None:
    assert refusal("json", {"a": Field(JSON)}, text) == f"the reply holds JSON that cannot be read: {said}"


def test_what_was_cut_at_the_token_limit_is_not_closed() -> None:
    assert refusal("json", {"a": Field(JSON)}, '{"a": [1, 2', cut=True).endswith("its end is missing")
    assert read("json", {"a": Field(JSON)}, '{"a": 1} and', cut=True).values == {"a": 1}


@pytest.mark.parametrize(
    ("text", "forgiven"),
    [
        ("<Thoughts>x</Thoughts>\n<The Label>billing</The Label>", "another spelling of a section's tags"),
        ("<thoughts >x</thoughts >\n<the-label id='1'>billing</the-label>", "another spelling of a section's tags"),
        ("**Thoughts:** x\n**The label:** billing", "lines in place of sections"),
        ("- thoughts: x\n- the_label: billing", "lines in place of sections"),
        ('{"thoughts": "x", "the_label": "billing"}', "JSON in place of sections"),
        (
            "<think><the_label>refund</the_label></think><thoughts>x</thoughts><the_label>billing</the_label>",
            "a <think> block before the reply",
        ),
    ],
)
def test_sections(text: str, forgiven: str) -> None:
    reading = read("fields", TWO, text)
    assert (reading.values, reading.forgiven) == ({"thoughts": "x", "the_label": "billing"}, (forgiven,))


def test_lines_go_on_until_the_next_begins() -> None:
    reading = read("fields", TWO, "Thoughts: one\ntwo: three\n\nThe label: refund")
    assert reading.values == {"thoughts": "one\ntwo: three", "the_label": "refund"}


def test_lines_do_not_stand_in_where_there_are_sections() -> None:
    assert refusal("fields", TWO, "<thoughts>x</thoughts>\nThe label: billing") == "the reply has no output 'the_label'"


def test_a_section_named_think_is_a_section() -> None:
    outputs = {"think": Field(STR), "label": Field(TOPIC)}
    reading = read("fields", outputs, "<think>x</think><label>refund</label>")
    assert (reading.values, reading.forgiven) == ({"think": "x", "label": "refund"}, ())


PLAIN = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters=" ,'[]{}:"), max_size=12)
VALUES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.recursive(PLAIN | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3)),
    min_size=1,
)
DAMAGE = [
    lambda text, value: f"Here it is:\n```json\n{text}\n```\nIs that good?",
    lambda text, value: f"Sure! {text} Anything else?",
    lambda text, value: repr(value),
    lambda text, value: text[:-1] + ",}",
    lambda text, value: text[:-1],
    lambda text, value: "<think>{no} [</think>" + text,
    lambda text, value: f"[{text}]",
    lambda text, value: "/* as asked */ " + text,
    lambda text, value: text[:-1] + " // all\n}",
]


@given(VALUES, st.sampled_from(DAMAGE))
def test_damaged_json_has_the_same_values(value: dict[str, Any], damage: Any) -> None:
    outputs = {name: Field(JSON) for name in value}
    written = write("json", outputs, value)
    damaged = damage(written, value)
    reading = read("json", outputs, damaged)
    assert reading.values == value
    assert reading.forgiven or json.loads(damaged) == value


@given(VALUES, st.data())
def test_cut_json_is_never_read(value: dict[str, Any], data: st.DataObject) -> None:
    outputs = {name: Field(JSON) for name in value}
    written = write("json", outputs, value)
    end = data.draw(st.integers(0, len(written) - 1))
    refusal("json", outputs, written[:end], cut=True)


@given(VALUES, st.data())
def test_random_damage_is_read_or_refused(value: dict[str, Any], data: st.DataObject) -> None:
    outputs = {name: Field(JSON) for name in value}
    format = data.draw(st.sampled_from(["json", "fields"]))
    damaged = list(write(format, outputs, value))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged)))
        damaged[place : place + data.draw(st.integers(0, 2))] = data.draw(st.text("<>/{}[]\"':,\\#ab \n`", max_size=2))
    try:
        reading = read(format, outputs, "".join(damaged), data.draw(st.booleans()))
    except Unreadable as error:
        assert str(error)
        return
    json.dumps(reading.values, allow_nan=False)
