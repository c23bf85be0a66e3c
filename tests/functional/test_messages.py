"""What the commands say where a user slips: the list of findings, steps by their id, one metric at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SPECS = Path(__file__).parents[1] / "specs" / "good"
AGENT = """
lmprog: 1
name: agent
inputs: {q: str}
lms: {m: {model: openai/none}}
tools: {find: {python: "./tools.py:find", result: found}}
modules: {ask: {lm: m, inputs: {q: str}, outputs: {answer: str}, tools: [find], max_turns: 2}}
steps:
  each: {module: ask, foreach: "${{ [inputs.q] }}", with: {q: "${{ item }}"}}
outputs: {answers: "${{ steps.each.answer }}"}
data: {dev: dev.jsonl}
"""


def test_explain_without_a_code_lists_all(cli) -> None:
    status, out, _ = cli("explain")
    assert status == 0 and out.splitlines()[0].startswith("LMP101: ") and "LMP803: " in out


def test_render_takes_the_id_of_a_step_and_shows_the_tools(cli, write) -> None:
    write("def find(query: str) -> str:\n    '''Finds a page.'''\n    return query\n", "tools.py")
    write('{"q": "a"}\n', "dev.jsonl")
    path = write(AGENT)
    status, out, err = cli("render", path, "--step", "each", "--format", "json")
    assert status == 0, err
    (shown,) = json.loads(out)
    assert shown["tools"][0]["name"] == "find"
    status, _, err = cli("render", path, "--step", "eahc")
    assert status == 2 and "there are each" in err


def test_a_metric_that_is_not_there_is_named_before_anything_runs(cli) -> None:
    status, _, err = cli("eval", SPECS / "whole_language.yaml", "--metric", "both,b", "--split", "dev")
    assert status == 2 and "has no metric 'b'" in err


def test_an_unknown_optimizer_is_answered_with_those_there_are(cli, write) -> None:
    write('{"q": "a"}\n', "dev.jsonl")
    text = AGENT.replace(", tools: [find], max_turns: 2", "").replace(
        'tools: {find: {python: "./tools.py:find", result: found}}', ""
    )
    goals = "metrics: {one: {value: '1.0'}}\noptimize: {metric: one, train: dev, stages: [mipro]}\n"
    status, out, _ = cli("check", write(text + goals))
    assert status == 1 and "there is no optimizer `mipro`" in out and "gepa" in out


@pytest.mark.parametrize("arguments", ["*args", "**args", "query: str, *args", "query: str, **args"])
@pytest.mark.parametrize("imports", [True, False])
def test_a_tool_that_takes_any_argument_is_told_of_where_an_agent_has_it(
    cli, write, arguments: str, imports: bool
) -> None:
    write(f"def find({arguments}) -> str:\n    'Finds.'\n    return ''\n", "tools.py")
    write('{"q": "a"}\n', "dev.jsonl")
    path = write(AGENT.replace("result: found", "result: found, effects: read"))
    status, out, _ = cli("check", path, *([] if imports else ["--no-import"]))
    assert status == 0 and "not told all arguments of `find`" in out
