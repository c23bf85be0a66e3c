"""Never a wrong value out of a reply, and no right one lost: one table for each of the readers' rules."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmprog.compiler.plan import Field
from lmprog.compiler.replies import loose_json, tool_calls
from lmprog.compiler.replies.ending import ending
from lmprog.compiler.replies.formats import write
from lmprog.compiler.replies.reading import read
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, JSON, STR, Enum, ListOf, Object, Optional, Type

LABEL = Enum(("refund", "cancel_order", "track_parcel", "refund_late"))
REFUSED = object()


def outcome(format: Any, outputs: dict[str, Field], text: str, cut: bool = False) -> Any:
    try:
        values = read(format, outputs, text, cut).values
    except Unreadable:
        return REFUSED
    return values["a"] if set(outputs) == {"a"} else values


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (LABEL, "<think>They want a refund, but"),
        (LABEL, "Okay.\n<think>They want a refund, but"),
        (LABEL, "<thinking>refund"),
        (LABEL, "<reasoning>a refund"),
        (LABEL, "[THINK]refund"),
        (LABEL, "<think>a <think>b</think> refund"),
        (STR, "<think>They ask for"),
        (STR, "Hm.\n<think>They ask for"),
        (INT, "<think>It is 5"),
        (ListOf(STR), '<think>["x"]'),
        (Object((("x", INT),)), '<think>{"x": 1}'),
    ],
)
def test_what_stands_in_unclosed_thinking_is_no_answer(kind: Type, text: str) -> None:
    assert outcome("text", {"a": Field(kind)}, text) is REFUSED
    assert outcome("fields", {"a": Field(kind)}, f"{text}<a>refund</a>") is REFUSED
    assert outcome("json", {"a": Field(kind)}, text + '{"a": "refund"}') is REFUSED


@pytest.mark.parametrize("opening", ["<think>", "<thinking>", "<reasoning>", "<Think>", "[THINK]", "◁think▷", ""])
@pytest.mark.parametrize(
    ("format", "answer"),
    [("text", "refund"), ("fields", "<a>refund</a>"), ("json", '{"a": "refund"}')],
)
def test_the_answer_follows_the_thinking(opening: str, format: Any, answer: str) -> None:
    closing = opening.replace("<", "</").replace("[", "[/").replace("◁", "◁/") or "</think>"
    inner = 'maybe cancel_order <a>cancel_order</a> {"a": "cancel_order"}'
    for text in (f"{opening}{inner}{closing}\n{answer}", f"\n{opening}{inner}{closing}{opening}x{closing}{answer}"):
        if opening or text.startswith(inner):
            assert outcome(format, {"a": Field(LABEL)}, text) == "refund"


def test_thinking_alone_is_no_answer() -> None:
    for kind in (LABEL, INT, BOOL, JSON):
        assert outcome("text", {"a": Field(kind)}, "<think>refund 1 yes</think>") is REFUSED


def test_a_text_may_speak_of_thinking_marks() -> None:
    for text in ("The <think> tag of this model.", "Write `</think>` at the end.", "```\n<think>\nx\n```"):
        assert outcome("text", {"a": Field(STR)}, text) == text
    assert outcome("json", {"a": Field(STR)}, '{"a": "<think>"}') == "<think>"
    assert outcome("fields", {"a": Field(STR)}, "<a>the <think> tag</a>") == "the <think> tag"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with refund requests.",
        "I am unable to say. A refund needs a person.",
        "As an AI language model I have no view of a refund.",
        "It is anything but a refund.",
        "A refund is not what they want.",
        "Is it a refund?",
        "refund?",
        "What is refund?",
        "It could be a refund",
        "Perhaps a refund.",
        "I cannot determine whether this is a refund request.",
        "They were denied a refund.",
        "A cancel_order rather than a talk",
        "non-refund",
        "Not a refund: refund",
        "Nothing here is refund",
        "It is a refund. Wait, that's wrong.",
        "refund or cancel_order",
        "Das ist kein refund.",
    ],
)
def test_no_label_out_of_a_denial_a_doubt_a_question_or_a_refusal(text: str) -> None:
    assert outcome("text", {"a": Field(LABEL)}, text) is REFUSED
    assert outcome("json", {"a": Field(LABEL)}, f'{{"a": "{text}"}}') is REFUSED


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (LABEL, "refund", "refund"),
        (LABEL, "**Refund**", "refund"),
        (LABEL, "label: refund", "refund"),
        (LABEL, "The label is refund.", "refund"),
        (LABEL, "It is a refund because they did not get the parcel.", "refund"),
        (LABEL, "This appears to be a refund request.", "refund"),
        (LABEL, "Sure! The best label is `track parcel`.", "track_parcel"),
        (LABEL, "The customer asks about a refund. This is not urgent.", "refund"),
        (LABEL, "refund\n\nReason: they paid twice.", "refund"),
        (Enum(("card?", "cash")), "card?", "card?"),
        (Enum(("card?", "cash")), "Card", "card?"),
        (BOOL, "Yes, they paid.", True),
        (BOOL, "The answer is false.", False),
        (INT, "42", 42),
        (INT, "-7", -7),
        (INT, "\u22127", -7),
        (INT, "+7", 7),
        (INT, "1,234", 1234),
        (INT, "#### 42", 42),
        (INT, "\\boxed{42}", 42),
        (INT, "Answer: 42", 42),
        (INT, "**Answer:** 42", 42),
        (INT, "The answer is 42.", 42),
        (INT, "I would give it a 4.", 4),
        (INT, "5. Because they say so.", 5),
        (INT, "5, since they say so", 5),
        (FLOAT, "$1,234", 1234.0),
        (FLOAT, "The total comes to 3.5", 3.5),
        (FLOAT, "1e-3", 0.001),
        (ListOf(INT), "Here: [1, 2.0]", [1, 2]),
    ],
)
def test_right_replies_are_read(kind: Type, text: str, value: Any) -> None:
    found = outcome("text", {"a": Field(kind)}, text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "\u20135", "- 5", "minus 5", "negative 5", "5 million", "3 thousand", "2 dozen", "5 k", "5k", "75 percent", "75 %",
        "75%", "it is not 5", "I cannot give a number for row 7.", "5 degrees below zero", "about 5", "at least 5", "~5", "<5",
        "5 or more", "row 7", "In 2019 it grew.", "Step 1: think", "1. First, read it.", "No. 5", "A-5", "5°", "5+", "5/7",
        "half of 5", "Is it 5?", "maybe 5", "between 3 and 5", "5 kg", "#5 in the list",
    ],
)  # fmt: skip
def test_no_number_without_its_sign_scale_and_unit(text: str) -> None:
    assert outcome("text", {"a": Field(FLOAT)}, text) is REFUSED
    assert outcome("json", {"a": Field(ListOf(FLOAT))}, f'{{"a": ["{text}"]}}') is REFUSED


def test_a_unit_that_the_output_is_named_for_is_no_other_number() -> None:
    assert read("text", {"total_minutes": Field(INT)}, "5 minutes").values == {"total_minutes": 5}
    assert read("text", {"items": Field(INT)}, "There are 3 items in it.").values == {"items": 3}
    assert outcome("text", {"a": Field(INT)}, "5 minutes") is REFUSED


def test_the_same_rules_hold_at_every_depth_of_json() -> None:
    kind = ListOf(Object((("n", INT), ("l", Optional(LABEL)), ("b", BOOL))))
    text = '{"a": [{"n": 5.0, "l": "Refund.", "b": "yes"}, {"n": "7", "l": null, "b": false}]}'
    assert outcome("json", {"a": Field(kind)}, text) == [
        {"n": 5, "l": "refund", "b": True},
        {"n": 7, "l": None, "b": False},
    ]
    assert outcome("json", {"a": Field(kind)}, '{"a": [{"n": 5.5, "l": null, "b": true}]}') is REFUSED
    assert outcome("json", {"a": Field(kind)}, '{"a": [{"n": 5, "l": "not refund", "b": true}]}') is REFUSED


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (INT, "12"),
        (LABEL, "refund"),
        (LABEL, "It is a refund"),
        (LABEL, "label: refund"),
        (BOOL, "No"),
        (ListOf(INT), "[1, 2"),
    ],
)
def test_a_value_that_a_limit_may_have_cut_is_refused(kind: Type, text: str) -> None:
    assert outcome("text", {"a": Field(kind)}, text, cut=False) is not REFUSED
    with pytest.raises(Unreadable, match="cut at its limit of tokens"):
        read("text", {"a": Field(kind)}, text, True)


def test_a_value_that_is_whole_is_read_where_the_reply_was_cut() -> None:
    assert outcome("text", {"a": Field(LABEL)}, "track_parcel", cut=True) == "track_parcel"
    assert outcome("text", {"a": Field(BOOL)}, "true", cut=True) is True
    reading = read("text", {"a": Field(STR)}, "a text that", True)
    assert reading.values == {"a": "a text that"} and "cut at its limit" in reading.forgiven[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('For example {"a": "y"}. My reply: {"a": "x"}', REFUSED),
        ('{"a": "x"}\n{"a": "y"}', REFUSED),
        ('{"a": "x"}\n{"a": "x"}', "x"),
        ('As {"b": 1} shows: {"a": "x"}', "x"),
        ('```python\nd = {"a": "y"}\n```\n```json\n{"a": "x"}\n```', "x"),
        ('{"a": "a {brace} and ``` fence"}', "a {brace} and ``` fence"),
        (r'{"a": "\d+"}', r"\d+"),
        (r'{"a": "\\(x\\) \d"}', r"\(x\) \d"),
        (r'{"a": "\(x\)"}', r"\(x\)"),
        (r'{"a": "\frac{1}{2} \beta"}', r"\frac{1}{2} \beta"),
        (r'{"a": "\(\nu \times \rho\)"}', r"\(\nu \times \rho\)"),
        ('{"a": "\\(x\\)\\nnext"}', "\\(x\\)\nnext"),
        (r'{"a": "C:\Users\new\test"}', r"C:\Users\new\test"),
        (r'{"a": "C:\bin"}', r"C:\bin"),
        (r'{"a": "C:\\Users\\new"}', r"C:\Users\new"),
        ('{"a": "tab\\there\\nline"}', "tab\there\nline"),
        ("{'a': 'it\\'s'}", "it's"),
        ("{'a': 'say \"x\"'}", 'say "x"'),
        ('{"a": "\\ud83d\\ude00"}', "\U0001f600"),
    ],
)
def test_which_json_and_every_backslash_of_it(text: str, value: Any) -> None:
    assert outcome("json", {"a": Field(STR)}, text) == value


@given(st.text(alphabet="abdfnrtuxUX\\/()[]{}$0159 _-", max_size=12))
def test_what_no_escape_of_json_begins_keeps_its_backslash(text: str) -> None:
    body = "\\(" + text.replace("\\", "\\\\")
    assert outcome("json", {"a": Field(STR)}, f'{{"a": "{body}"}}') in ("\\(" + text, REFUSED)


@given(st.text(), st.sampled_from(["\n", "\r\n", " \n"]), st.sampled_from(["\n", "\r\n", "\n  "]))
def test_line_breaks_that_lay_out_a_section_are_no_part_of_it(value: str, before: str, after: str) -> None:
    written = write("fields", {"a": Field(STR)}, {"a": value})
    assert outcome("fields", {"a": Field(STR)}, written) == value or "<" in value
    if "<" not in value and "\n" not in value and not value.isspace() and value.strip() == value:
        assert outcome("fields", {"a": Field(STR)}, f"<a>{before}{value}{after}</a>") == value


def test_what_was_forgiven_of_sections_is_recorded() -> None:
    outputs = {"a": Field(STR), "b": Field(STR)}
    for text, note in {
        "I will write <a> and <b>.\n<a>x</a>\n<b>y</b>": "words around the sections",
        "**A**\nx\n\n**B**\ny": "lines in place of sections",
        "## A\nx\n## B\ny": "lines in place of sections",
        "<a>x</a><b>y": "</b> is missing",
    }.items():
        reading = read("fields", outputs, text)
        assert (reading.values, reading.forgiven) == ({"a": "x", "b": "y"}, (note,))


def test_calls_within_thinking_are_not_made() -> None:
    call = '<call>{"tool": "t", "arguments": {"x": 1}}</call>'
    assert tool_calls.read(f"<think>{call}</think>done", [])[1] == []
    assert [made.arguments for made in tool_calls.read(f"<think>{call}</think>{call}", [])[1]] == [{"x": 1}]
    with pytest.raises(Unreadable):
        tool_calls.read(f"<think>{call}", [])


def test_endings_by_the_words_of_providers() -> None:
    assert [ending(word) for word in ("stop", "end_turn", "MAX_TOKENS", "SAFETY", "error", "odd", None)] == [
        "whole", "whole", "cut", "withheld", "failed", "whole", "whole",
    ]  # fmt: skip


UNITS = [
    "refund\n", "not a refund. ", "<", "[", "{", '{"a":', '{"a":1}', "\\", '"', '{"\\"', "{/*", "```", "<a>", "</a>", "<think>",
    "</think>", " ", "\n", "#", "**a**\n", "a: 1\n", "7 ", "?", "<call>", '<call>{"tool": "x"}', "<a b=", "x <a>", "\\d",
    "<A>", "{'a':1}", '{"a": 5 x, ', "\\", "<|channel|>final<|message|>", "<think>x</think>", "\nReason: ", "yes, ",
    "[[ ## a ## ]]\n", "1. a: ", "label is ", "_", "\u201c", "\\t",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_the_time_is_linear_in_the_length(unit: str) -> None:
    """A reader that is quadratic takes minutes for this; in processor time, which does not depend on the load."""
    text = unit * (200_000 // len(unit))
    labels = Enum((*LABEL.values, *(f"label_number_{number}" for number in range(70))))
    began = time.process_time()
    for format, outputs in (
        *(("text", {"a": Field(kind)}) for kind in (labels, FLOAT, BOOL, STR, JSON, ListOf(STR))),
        ("json", {"a": Field(STR)}),
        ("fields", {"a": Field(labels), "b": Field(STR)}),
    ):
        outcome(format, outputs, text)
    with contextlib.suppress(Unreadable):
        tool_calls.read(text, [])
    assert time.process_time() - began < 20


@given(st.lists(st.sampled_from(UNITS), min_size=1, max_size=5), st.booleans())
@settings(max_examples=settings().max_examples // 2)
def test_twice_the_length_is_at_most_about_twice_the_work(units: list[str], cut: bool) -> None:
    """Counted in calls of functions, of Python and of C, so that it holds on any machine."""
    short = "".join(units) * (3_000 // len("".join(units)))
    outputs = {"a": Field(LABEL), "b": Field(STR)}
    readers: list[Callable[[str], object]] = [
        lambda text: outcome("json", {"a": Field(STR)}, text, cut),
        lambda text: outcome("fields", outputs, text, cut),
        lambda text: tool_calls.arguments(text, []),
        lambda text: tool_calls.read(text, []),
        *(lambda text, kind=kind: outcome("text", {"a": Field(kind)}, text, cut) for kind in (LABEL, FLOAT, BOOL, STR)),
    ]
    for reader in readers:
        reader(short)  # what it imports or makes at its first call is not counted
        assert _calls(reader, short * 2) < 3 * _calls(reader, short) + 500


def _calls(reader: Callable[[str], object], text: str) -> int:
    count = 0

    def see(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        with contextlib.suppress(Unreadable):
            reader(text)
    finally:
        sys.setprofile(before)
    return count


def test_the_steps_of_loose_json_are_limited() -> None:
    with pytest.raises(ValueError, match="parts to be mended"):
        loose_json.find("{a: 1, " * 1000 + "[" * 20_000, "{[", [])
