"""The stand-ins of a dry run."""

from __future__ import annotations

import asyncio

import pytest

from lmprog import Request
from lmprog.compiler.plan import Field
from lmprog.compiler.replies.reading import read
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
    mismatch,
)
from lmprog.lms.fake import FakeLM, placeholder

KINDS = {
    "s": STR,
    "i": INT,
    "f": FLOAT,
    "b": BOOL,
    "j": JSON,
    "p": IMAGE,
    "m": MESSAGES,
    "e": Enum(("x", "y")),
    "o": Object((("a", INT), ("b", ListOf(STR)))),
    "maybe": Optional(Enum(("x", "y"))),
}


@pytest.mark.parametrize("format", ["fields", "json"])
def test_a_fake_reply_reads_back_as_every_type(format) -> None:
    request = Request([], output_type=Object(tuple(KINDS.items())), format=format)
    text = asyncio.run(FakeLM().complete(request)).text
    reading = read(format, {name: Field(kind) for name, kind in KINDS.items()}, text)
    assert reading.values == {name: placeholder(name, kind) for name, kind in KINDS.items()}
    assert reading.forgiven == ()


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_a_placeholder_is_of_its_type(kind) -> None:
    assert mismatch(placeholder("name", kind), kind) is None
    request = Request([], output_type=Object((("name", kind),)), format="text")
    text = asyncio.run(FakeLM().complete(request)).text
    assert read("text", {"name": Field(kind)}, text).values == {"name": placeholder("name", kind)}


def test_a_faked_program_calls_no_tool_that_writes(program) -> None:
    spec = """
        inputs: {text: str}
        outputs: {sent: "${{ steps.send.receipt }}", read: "${{ steps.look.page }}", reply: "${{ steps.ask.reply }}"}
        tools:
          send: {python: ./tools.py:send, result: receipt, effects: write}
          look: {python: ./tools.py:look, result: page}
        modules:
          ask: {lm: lm, inputs: {text: str}, outputs: {reply: {enum: [yes, no]}}}
        steps:
          ask: {module: ask, with: {text: "${{ inputs.text }}"}}
          send: {tool: send, with: {text: "${{ steps.ask.reply }}"}}
          look: {tool: look, with: {text: "${{ inputs.text }}"}}
    """
    tools = (
        "def send(text: str) -> str:\n    raise RuntimeError\ndef look(text: str) -> str:\n    return 'page ' + text\n"
    )
    result = program(spec, tools__py=tools).faked()(text="a")
    assert result.outputs == {"sent": "(receipt)", "read": "page a", "reply": "yes"}


def test_a_placeholder_of_a_pydantic_model_is_valid(program) -> None:
    spec = """
        outputs: {found: "${{ steps.ask.found }}"}
        modules:
          ask: {lm: lm, inputs: {}, outputs: {found: {type: "./models.py:Found"}}, format: json}
        steps:
          ask: {module: ask}
    """
    models = """
from datetime import date, datetime, timedelta
from enum import IntEnum
from typing import Annotated, Literal
from uuid import UUID
from pydantic import BaseModel, Field

class Size(IntEnum):
    SMALL = 3

class Inner(BaseModel):
    word: Annotated[str, Field(min_length=12, max_length=14)]
    size: Size
    kind: Literal["late", "early"]

class Found(BaseModel):
    day: date
    at: datetime | None
    long: timedelta
    id: UUID
    few: Annotated[int, Field(gt=0, lt=2)]
    many: int = Field(ge=100, multiple_of=7)
    share: float = Field(gt=0.5, le=0.75)
    below: int = Field(lt=-5)
    inner: list[Inner] = Field(min_length=2, alias="parts")
"""
    result = program(spec, models__py=models).faked()()
    assert result.outputs is not None
    found = result.outputs["found"]
    assert (found["few"], found["many"], found["below"], found["day"]) == (1, 105, -6, "2026-01-01")
    assert 0.5 < found["share"] <= 0.75
    assert [inner["word"] for inner in found["inner"]] == ["(word)......"] * 2
