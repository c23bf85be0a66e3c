"""Outputs piece by piece: what is sent is the beginning of the output, whatever the pieces of the reply are."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.compiler import compile_file
from lmprog.compiler.plan import Plan
from lmprog.runtime.events import TextPiece
from lmprog.serving.field_pieces import FieldPieces

ONE = """
lmprog: 1
name: one
lms: {lm: {model: openai/x}}
modules: {answer: {inputs: {question: str}, outputs: {text: str}}}
"""
TWO = """
lmprog: 1
name: two
lms: {lm: {model: openai/x}}
modules: {answer: {inputs: {question: str}, outputs: {title: str, body: str, stars: int}}}
"""


def plan_of(text: str) -> Plan:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.yaml")
        path.write_text(text)
        found = compile_file(path)
    assert found.plan is not None, found.findings
    return found.plan


PLANS = {"one": plan_of(ONE), "two": plan_of(TWO)}


def received(plan: Plan, pieces: Sequence[str | None], outputs: dict[str, Any]) -> dict[str, Any]:
    """Return the outputs that a client has at the end, from the pieces alone."""
    fields, has = FieldPieces(plan), dict[str, Any]()

    def take(found: list[tuple[str, Any]]) -> None:
        for output, piece in found:
            if piece is None:
                has.pop(output, None)
            else:
                has[output] = has[output] + piece if isinstance(piece, str) and output in has else piece

    for piece in pieces:
        take(fields.of(TextPiece("answer", "answer", 0, piece)))
    take(fields.rest(outputs))
    return has


def cut(text: str, places: Sequence[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(ends)]


TEXTS = st.text(st.sampled_from("ab <>/\\\n\té🙂titlebody"), max_size=30)


@given(TEXTS, st.lists(st.integers(0, 200), max_size=6))
def test_a_text_comes_whole_whatever_its_pieces(text: str, places: list[int]) -> None:
    outputs = {"text": text.strip()}
    assert received(PLANS["one"], cut(f" {text}\n", places), outputs) == outputs


@given(TEXTS, TEXTS, st.lists(st.integers(0, 200), max_size=6))
def test_sections_come_whole_whatever_their_pieces(title: str, body: str, places: list[int]) -> None:
    outputs = {"title": title.strip(), "body": body.strip(), "stars": 3}
    reply = f"<title>{title}</title>\n<body>\n{body}\n</body>\n<stars>3</stars>"
    assert received(PLANS["two"], cut(reply, places), outputs) == outputs


CUT = ("<title>On ", "rain</ti", "tle><body>It ra", "ins")


def test_a_text_is_sent_while_it_is_written() -> None:
    fields = FieldPieces(PLANS["two"])
    sent = [fields.of(TextPiece("answer", "answer", 0, piece)) for piece in CUT]
    assert sent == [[("title", "On")], [("title", " rain")], [("body", "It ra")], [("body", "ins")]]
    assert fields.rest({"title": "On rain", "body": "It rains.", "stars": 3}) == [("body", "."), ("stars", 3)]


@pytest.mark.parametrize("second", [(None, 0), ("Bad", 1)], ids=["begun anew", "another attempt"])
def test_a_reply_that_begins_anew_is_void(second: tuple[str | None, int]) -> None:
    fields = FieldPieces(PLANS["one"])
    assert fields.of(TextPiece("answer", "answer", 0, "Goo")) == [("text", "Goo")]
    piece, attempt = second
    again = fields.of(TextPiece("answer", "answer", attempt, piece))
    assert again[0] == ("text", None) and again[1:] == ([("text", "Bad")] if piece else [])


def test_thinking_is_not_sent() -> None:
    fields = FieldPieces(PLANS["one"])
    for piece in ("<think>", "is it 4? ", "</think>", "Fo", "ur"):
        assert not any(text and "4" in text for _, text in fields.of(TextPiece("answer", "answer", 0, piece)))
    assert fields.rest({"text": "Four"})[-1] == ("text", "Four")


def test_an_output_that_turns_out_otherwise_is_sent_anew() -> None:
    fields = FieldPieces(PLANS["one"])
    fields.of(TextPiece("answer", "answer", 0, "yes, but"))
    assert fields.rest({"text": "no"}) == [("text", None), ("text", "no")]
