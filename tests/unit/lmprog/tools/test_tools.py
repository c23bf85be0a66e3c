"""Python tools: results, types, errors, timeouts, threads."""

from __future__ import annotations

import pytest

from lmprog import RunError

TOOLS = """
import asyncio, threading, time
from typing import TypedDict

calls = []
meeting = threading.Barrier(3)

def add(a: int, b: int = 2) -> int:
    return a + b

async def slow(a: int, b: int = 2) -> int:
    await asyncio.sleep(0.05)
    return a + b

def fails(a: int, b: int = 2) -> int:
    raise ValueError(f"no {a}")

def times_out(a: int, b: int = 2) -> int:
    raise TimeoutError("the socket timed out")

def lies(a: int, b: int = 2) -> int:
    return "four"

def sleeps(a: int, b: int = 2) -> int:
    meeting.wait(60)
    return threading.get_ident()
"""
SPEC = """
    inputs: {{a: int}}
    outputs: {{sum: "${{{{ steps.use.sum }}}}"}}
    tools:
      use: {{python: "./tools.py:{name}", result: sum{more}}}
    steps:
      use: {{tool: use, with: {{a: "${{{{ inputs.a }}}}"}}{step}}}
"""


def made(program, name: str, more: str = "", step: str = ""):
    return program(SPEC.format(name=name, more=more, step=step), tools__py=TOOLS)


@pytest.mark.parametrize("name", ["add", "slow"])
def test_a_tool_gives_its_result(program, name) -> None:
    assert made(program, name)(a=3).outputs == {"sum": 5}


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("fails", "", "use: use raised ValueError: no 3 (tools.py:15)"),
        ("times_out", "", "use: use raised TimeoutError: the socket timed out (tools.py:18)"),
        ("lies", "", 'use: use returned what it does not declare: "four" is not a value of type int'),
        ("slow", ", timeout: 0.01", "use: use did not end within 0.01 seconds"),
    ],
)
def test_a_tool_that_fails(program, name, more, message) -> None:
    with pytest.raises(RunError) as caught:
        made(program, name, more)(a=3)
    assert str(caught.value) == message
    assert caught.value.result.error.kind == "tool"
    assert caught.value.exit_status == 1


def test_a_tool_that_fails_may_have_a_stand_in(program) -> None:
    assert made(program, "fails", step=", on_error: {sum: 0}")(a=3).outputs == {"sum": 0}


def test_tools_that_block_run_in_threads_beside_each_other(program) -> None:
    results = made(program, "sleeps").map([{"a": index} for index in range(3)])
    assert [result.error for result in results] == [None] * 3  # each waits until all three are there
    assert len({result.outputs["sum"] for result in results}) == 3


def test_an_object_is_one_output_whatever_its_fields_are_called(program) -> None:
    spec = """
        inputs: {query: str}
        outputs: {titles: "${{ steps.find.found.titles }}", all: "${{ steps.find.found }}"}
        tools:
          find: {python: "./tools.py:find", result: found}
        steps:
          find: {tool: find, with: {query: "${{ inputs.query }}"}}
    """
    tools = """
        from typing import TypedDict

        class Found(TypedDict):
            titles: list[str]
            found: int

        def find(query: str) -> Found:
            return {"titles": [query], "found": 1}
    """
    result = program(spec, tools__py=tools)(query="q")
    assert result.outputs == {"titles": ["q"], "all": {"titles": ["q"], "found": 1}}


def test_equal_calls_of_a_cached_tool_are_one(program) -> None:
    tools = """
        import asyncio

        calls = []

        async def find(a: int) -> int:
            calls.append(a)
            await asyncio.sleep(0.05)
            if a == 3 and calls.count(3) == 1:
                raise ValueError("not now")
            return len(calls)
    """
    spec = """
        inputs: {a: int}
        outputs: {sum: "${{ steps.use.sum }}"}
        tools:
          use: {python: "./tools.py:find", result: sum, cache: true EFFECTS}
        steps:
          use: {tool: use, with: {a: "${{ inputs.a }}"}}
    """
    cached = program(spec.replace("EFFECTS", ""), tools__py=tools)
    assert [result.outputs["sum"] for result in cached.map([{"a": 1}] * 4)] == [1] * 4
    assert cached(a=1).outputs == {"sum": 1} and cached(a=2).outputs == {"sum": 2}
    assert len(cached.map([{"a": 1}])[0].tool_calls) == 1
    # A failure is not kept: the next in line asks again.
    assert [result.error is None for result in cached.map([{"a": 3}] * 2)] == [False, True]
    writes = program(spec.replace("EFFECTS", ", effects: write"), tools__py=tools)
    assert len({result.outputs["sum"] for result in writes.map([{"a": 1}] * 2)}) >= 1 and writes(a=1).outputs["sum"] > 2


def test_models_and_dataclasses_are_objects(program) -> None:
    spec = """
        outputs: {name: "${{ steps.use.page.name }}", first: "${{ first(steps.all.pages) }}"}
        tools:
          use: {python: "./tools.py:page", result: page}
          all: {python: "./tools.py:pages", result: pages}
        steps:
          use: {tool: use}
          all: {tool: all}
    """
    tools = """
        from pydantic import BaseModel

        class Page(BaseModel):
            name: str

        def page() -> Page:
            return Page(name="Oslo")

        def pages() -> list[Page]:
            return [Page(name="Rome")]
    """
    assert program(spec, tools__py=tools)().outputs == {"name": "Oslo", "first": {"name": "Rome"}}


@pytest.mark.parametrize("value", ["Model(said=bytes([255]))", "Model", "Held(threading.Lock())"])
def test_a_result_that_cannot_be_made_plain_values_is_the_tools_failure(program, value) -> None:
    made = f"""
import dataclasses, threading
import pydantic

class Model(pydantic.BaseModel):
    said: bytes

@dataclasses.dataclass
class Held:
    lock: object

def use(a: int) -> int:
    return {value}
"""
    with pytest.raises(RunError, match="use: use returned what") as caught:
        program(SPEC.format(name="use", more="", step=""), tools__py=made)(a=3)
    assert caught.value.result.error.kind == "tool"
