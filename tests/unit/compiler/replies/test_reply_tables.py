"""What models write around a value, kind by kind: each reply is read as what it means, or refused (None)."""

from __future__ import annotations

from typing import Any

import pytest

from lmprog.compiler.plan import Field
from lmprog.compiler.replies import tool_calls
from lmprog.compiler.replies.reading import read
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, STR, Enum, ListOf, Object, Optional, Type

LABEL = Enum(("refund", "cancel_order", "other"))
YES_NO = Enum(("yes", "no"))


def outcome(format: Any, kind: Type | dict[str, Type], text: str, cut: bool = False) -> Any:
    kinds = kind if isinstance(kind, dict) else {"a": kind}
    try:
        values = dict(read(format, {name: Field(one) for name, one in kinds.items()}, text, cut).values)
    except Unreadable:
        return None
    return values if isinstance(kind, dict) else values["a"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (LABEL, "Other: refund", None),
        (LABEL, "refund\n\ncancel_order", None),
        (LABEL, "Answer: refund\nReason: not other", "refund"),
        (LABEL, "refund\n\n**Explanation:** it is no cancel_order", "refund"),
        (LABEL, "refund\nReason: wait, it is other", None),
        (LABEL, "I do not know.\nReason: refund or other", None),
        (LABEL, "cancel\\_order", "cancel_order"),
        (LABEL, "<label>refund</label>", "refund"),
        (YES_NO, "No, because nothing was paid.", "no"),
        (YES_NO, "Yes, they paid.", "yes"),
        (YES_NO, "No, yes.", None),
        (YES_NO, "No idea.", None),
        (YES_NO, "No, I can't tell.", None),
        (BOOL, "Yes, the claim is false.", None),
        (BOOL, "No, that is true.", None),
        (BOOL, "No, that is not true.", False),
        (BOOL, "No. The claim is false.", False),
        (BOOL, "<answer>true</answer>", True),
        (BOOL, "no\nExplanation: yes was too much", False),
        (FLOAT, ">5", None),
        (FLOAT, "<n>5</n>", 5.0),
        (FLOAT, "-> 5", 5.0),
        (FLOAT, "42\n\nExplanation: 6 * 7", 42.0),
        (FLOAT, "\u06f5", 5.0),
        (INT, "0x10", None),
        (Optional(INT), "None", None),
        (Optional(INT), "N/A", None),
    ],
)
def test_single_values(kind: Type, text: str, value: Any) -> None:
    assert outcome("text", kind, text) == value


def test_nothing_in_other_words_is_nothing_where_it_can_be_no_value() -> None:
    for text in ("null", "None", "none.", "N/A", "nothing", ""):
        assert read("text", {"a": Field(Optional(INT))}, text).values == {"a": None}
    assert outcome("text", Optional(Enum(("none", "some"))), "None") == "none"
    assert outcome("text", Optional(STR), "None") == "None"


HARMONY = "<|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"<|channel|>analysis<|message|>a refund<|end|>{HARMONY}other", "other"),
        (f"<|channel|>analysis<|message|>a<|end|><|channel|>analysis<|message|>refund<|end|>{HARMONY}other", "other"),
        (f"We need a refund.{HARMONY}other", "other"),
        ("<|channel|>analysis<|message|>They want a refund", None),
        ("<|START_THINKING|>refund<|END_THINKING|>other", "other"),
        ("<|begin_of_thought|>refund<|end_of_thought|>\n\nother", "other"),
        ("<reflection>refund</reflection>other", "other"),
        ("<inner_monologue>They want a refund", None),
    ],
)
def test_thinking_in_other_marks_is_no_answer(text: str, value: Any) -> None:
    assert outcome("text", LABEL, text) == value
    assert outcome("text", STR, text) == value


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (STR, '{"a": "x", "a": "y"}', None),
        (STR, '{"a": "x", "a": "x"}', "x"),
        (STR, "{'a': 'x', 'a': 'y', 'b': {'a': 'z'}}", None),
        (STR, '{"a": 5 apples, "b": {"a": "z"}}', None),
        (STR, '{"b": 5 apples, "c": [{"a": "z"}]}', None),
        (STR, 'Write {"a": <text>}.\n{"a": "x"}', "x"),
        (STR, '{{"a": "x"}}', "x"),
        (STR, '"{\\"a\\": \\"x\\"}"', "x"),
        (STR, '{"response": {"a": "x"}}', "x"),
        (STR, '{"type": "object", "properties": {"a": "x"}}', None),
        (STR, '{"properties": {"a": "x"}}', None),
        (STR, '{"a": "$\\theta \\times 2$"}', "$\\theta \\times 2$"),
        (STR, '{"a": "one\\ttwo\\nthree\\nexists"}', "one\ttwo\nthree\nexists"),
        (STR, '{"a": "<think>t</think>x"}', "x"),
        (STR, '{"a": "<think>They want"}', None),
        (STR, '{"a": "the <think> tag"}', "the <think> tag"),
        (LABEL, '{"a": "<think>a refund</think>"}', None),
        (LABEL, '{"a": "<think>a refund</think>other"}', "other"),
        (ListOf(LABEL), '{"a": ["Refund", "cancel order"]}', ["refund", "cancel_order"]),
        (ListOf(LABEL), '{"a": ["not refund"]}', None),
        (ListOf(INT), '{"a": ["1", 2.0, "5 million"]}', None),
        (Optional(LABEL), '{"a": "None"}', None),
        (BOOL, '{"a": 1}', None),
        (INT, '{"a": 9007199254740993.0}', None),
    ],
)
def test_json(kind: Type, text: str, value: Any) -> None:
    assert outcome("json", kind, text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[[ ## why ## ]]\nr\n\n[[ ## a ## ]]\nrefund\n\n[[ ## completed ## ]]", "refund"),
        ("[[ ## why ## ]]\nr\n\n[[ ## a ## ]]\nrefund", "refund"),
        ("1. Why: r\n2. A: refund", "refund"),
        ("<why>r</why><a>refund</a>\nWait, actually <a>other</a>", None),
        ("<why>r</why><a>refund</a>\n\n<why>s</why><a>other</a>", "refund"),
    ],
)
def test_sections(text: str, value: Any) -> None:
    found = outcome("fields", {"why": STR, "a": LABEL}, text)
    assert found == (None if value is None else {"why": "r", "a": value})


@pytest.mark.parametrize("kind", [STR, LABEL, Optional(LABEL), Optional(STR)])
def test_thinking_alone_is_no_answer(kind: Type) -> None:
    assert _refused("text", kind, "<think>a refund</think>\n")
    assert _refused("fields", kind, "<a><think>a refund</think></a>")
    assert kind == STR or _refused("json", kind, '{"a": "<think>a refund</think>"}') or kind == Optional(STR)


def _refused(format: Any, kind: Type, text: str) -> bool:
    with pytest.raises(Unreadable):
        read(format, {"a": Field(kind)}, text)
    return True


def test_the_same_rules_hold_within_objects() -> None:
    kind = Object((("n", INT), ("l", Optional(LABEL))))
    assert outcome("text", kind, '{"n": "5.0", "l": "Refund."}') == {"n": 5, "l": "refund"}
    assert outcome("text", kind, '{"n": "75 percent", "l": null}') is None
    assert outcome("text", kind, '{"n": 1, "l": "<think>refund</think>"}') is None


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{}{"a": 1}', {"a": 1}),
        ('{"a": 1}{}', {"a": 1}),
        ("{}", {}),
        ('{"a": 1}{"a": 2}', None),
        ('{"a": 1, "a": 2}', None),
        ('<tool_call>{"a": 1}</tool_call>', {"a": 1}),
        ('[{"a": 1}]', {"a": 1}),
        ("[]", None),
    ],
)
def test_arguments_of_a_call(written: str, arguments: Any) -> None:
    found, problem = tool_calls.arguments(written, [])
    assert (problem is not None) if arguments is None else (found, problem) == (arguments, None)
