"""A verb that runs a program many times calls tools that write only when it is told to, and nothing is written twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import lmprog
from lmprog.aio.loops import run_async
from lmprog.credit.variance import measure

TOOLS = """
import pathlib
SENT = pathlib.Path(__file__).with_name("sent")

def send(text: str) -> str:
    with SENT.open("a") as file:
        file.write(text + "\\n")
    if text == "fails":
        raise ValueError("no answer")
    return text

def same(a: str, b: str) -> bool:
    return a == b
"""
SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    lms: {lm: {model: openai/x, api_base: "URL", api_key: none}}
    tools: {send: {python: "./tools.py:send", effects: write}}
    modules: {ask: {lm: lm, inputs: {text: str}, outputs: {answer: str}, instructions: Say it.}}
    steps:
      send: {tool: send, with: {text: "${{ inputs.text }}"}, retry: 3}
      ask: {module: ask, with: {text: "${{ steps.send.result }}"}}
    outputs: {answer: "${{ steps.ask.answer }}"}
    data: {train: rows.jsonl, dev: rows.jsonl, test: rows.jsonl}
    metrics: {right: {python: "./tools.py:same", with: {a: "${{ outputs.answer }}", b: ok}}}
    optimize: {metric: right, tune: {ask: [demos]}, stages: [{bootstrap: {rows: 2, sets: 1}}]}
    tests: [{inputs: {text: a}, expect: {answer: ok}}]
"""


@pytest.fixture
def spec(write, provider) -> Path:
    write(TOOLS, "tools.py")
    write("".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(3)), "rows.jsonl")
    return write(SPEC.replace("URL", provider.url))


def sent(spec: Path) -> list[str]:
    file = spec.with_name("sent")
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize(
    ("verb", "often"),
    [
        (("eval",), "3 in all"),
        (("test",), "1 in all"),
        (("optimize",), "in all"),
        (("credit", "--repeats", "2"), "once in a run"),
    ],
    ids=str,
)
def test_refused_unless_it_is_allowed(
    cli: Callable[..., tuple[int, str, str]], spec: Path, tmp_path: Path, verb: tuple[str, ...], often: str
) -> None:
    more = ["--run-dir", tmp_path / "run"] if verb == ("optimize",) else []
    status, out, err = cli(*verb, spec, *more)
    assert (status, out) == (2, "")
    assert "send once in a run of desk" in err and often in err and "--allow-writes" in err
    assert sent(spec) == []
    assert cli(*verb, spec, *more, "--allow-writes")[0] == 0
    assert sent(spec)


def test_what_calls_no_tool_is_not_refused(cli, spec: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.jsonl"
    assert cli("test", spec, "--record", recorded, "--allow-writes")[0] == 0
    assert sent(spec) == ["a"]
    assert cli("test", spec, "--replay", recorded)[0] == 0
    assert cli("optimize", spec, "--dry-run")[0] == 0
    assert cli("render", spec)[0] == 0
    assert sent(spec) == ["a"]


def test_a_step_that_has_written_is_not_tried_again(cli, spec: Path) -> None:
    assert cli("run", spec, "--input", "text=fails")[0] != 0
    assert sent(spec) == ["fails"]
    spec.write_text(spec.read_text().replace("effects: write", "effects: read"))
    cli("run", spec, "--input", "text=fails")
    assert sent(spec) == ["fails"] * 5


def test_the_python_api_asks_too(spec: Path, tmp_path: Path) -> None:
    program, rows = lmprog.load(spec), [{"text": "a"}]
    refused = pytest.raises(lmprog.UsageError, match="allow_writes=True")
    with refused:
        lmprog.evaluate(program, rows, "right")
    with refused:
        lmprog.optimize(spec, run_dir=tmp_path / "run")
    with refused:
        run_async(lambda: measure(program, rows, "right", repeats=2))
    assert sent(spec) == [] and not (tmp_path / "run").exists()
    lmprog.evaluate(program, rows, "right", allow_writes=True)
    assert sent(spec) == ["a"]
