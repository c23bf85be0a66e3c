"""bootstrap gives modules demos of their own solved runs, within its bounds, and the same when resumed."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

import lmprog
from lmprog import Completion, Request
from lmprog.compiler.overlay import write_overlay
from lmprog.lms.lm import ToolCall
from lmprog.optimizers.bootstrap import Bootstrap, Config
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.strategies.demo_sources import bootstrapped
from lmprog.scoring.evaluation import RowScore


def stage(**options) -> Bootstrap:
    return Bootstrap(Config.model_validate({"sets": 5, "demos": 4, "labelled": 3, "rows": 8, **options}))


def test_demos_win_where_they_help(parity, task_of) -> None:
    program, script = parity(good="assistant: even")
    found, task = stage(), task_of(program)
    change = found.optimize(task)
    (demos,) = change.demos.values()
    assert len(demos) <= 4 and {"number": int, "parity": str} == {name: type(v) for name, v in demos[0].items()}
    assert any(demo["parity"] == "even" for demo in demos)
    assert 0 < script.calls <= found.most_calls(program, 20, 30)
    paid = script.calls
    assert found.optimize(task_of(program)) == change
    assert script.calls == paid


def test_without_labels_only_solved_runs_are_shown(parity, task_of) -> None:
    program, _ = parity(good="assistant: even")  # it always says odd: no even demo comes of its own runs
    assert stage(labelled=0).optimize(task_of(program)) == Candidate()


def test_every_other_set_has_the_most_demos(parity) -> None:
    program, _ = parity()
    pool = [{"number": number, "parity": "odd" if number % 2 else "even"} for number in range(20)]
    judge = program.plan.modules["judge"]
    sizes = [len(stage()._set(judge, pool[:10], pool[10:], number, seed=0)) for number in range(40)]
    assert set(sizes[1::2]) == {4} and len(set(sizes[2::2])) > 1


@pytest.mark.parametrize("limit", [30, 60])
def test_the_budget_is_kept(parity, task_of, limit: int) -> None:
    program, script = parity(good="assistant: even")
    stage().optimize(task_of(program, {"lm_calls": limit}))
    assert script.calls <= limit


def test_no_demo_is_taken_from_a_run_that_failed_whatever_is_asked_of_it(parity) -> None:
    program, _ = parity()
    result = asyncio.run(program.run({"number": 1}))
    judge = program.plan.modules["judge"]
    for kind in ("unreadable", "tool", "expression", "metric", "limit", "timeout"):
        assert bootstrapped(judge, [RowScore(0, 0, 0.0, result, kind=kind)], 0.0, 0.0) == []
    assert bootstrapped(judge, [RowScore(0, 0, None, result, kind="connection")], 0.0, 0.0) == []
    assert len(bootstrapped(judge, [RowScore(0, 0, 0.0, result)], 0.0, 0.0)) == 1


AGENT = """
    lmprog: 1
    inputs: {{questions: "list[str]"}}
    outputs: {{answers: "${{{{ steps.ask.answer }}}}", lost: "${{{{ steps.lost.answer }}}}"}}
    lms: {{lm: {{model: openai/none, tool_protocol: {protocol}}}}}
    tools: {{add: {{python: "./tools.py:add", effects: read}}}}
    modules:
      ask: {{lm: lm, inputs: {{question: str}}, outputs: {{answer: int}}, tools: [add], instructions: Add., retry: 1}}
    steps:
      lost: {{module: ask, with: {{question: What is it?}}, on_error: {{answer: 0}}}}
      ask: {{module: ask, foreach: "${{{{ inputs.questions }}}}", with: {{question: "${{{{ item }}}}"}}}}
"""


@pytest.mark.parametrize("protocol", ["native", "text"])
def test_demos_of_an_agent_keep_the_tool_calls_of_their_run(write, scripted, protocol: str) -> None:
    """Make three calls beside each other: one adds at once, one wrongly first, and one never answers."""
    write("def add(a: int, b: int) -> int:\n    return a + b\n", "tools.py")
    path = write(AGENT.format(protocol=protocol))
    asked: list[list[str]] = []

    def answer(request: Request) -> Completion:
        texts = [str(message["content"]) for message in request.messages]
        asked.append(texts)
        question = [text for text in texts if text.startswith("What is ")][-1]
        results = texts[len(texts) - texts[::-1].index(question) :]
        if question == "What is it?":
            return Completion(text="I do not know.")
        wrong = question == "What is 3 and 4?" and len(results) == 0
        if not results or ("lacks" in results[-1] or "takes" in results[-1]):
            given = {"a": 3} if wrong else dict(zip("ab", map(int, re.findall(r"\d", question)), strict=True))
            calls = [("add", given)] * (2 if question == "What is 1 and 2?" else 1)
            if protocol == "text":
                written = (f"<call>{json.dumps({'tool': name, 'arguments': of})}</call>" for name, of in calls)
                return Completion(text="\n".join(written))
            made = [ToolCall(f"c{place}", name, of, json.dumps(of)) for place, (name, of) in enumerate(calls)]
            return Completion(text="", tool_calls=made, finish_reason="tool_calls")
        return Completion(text=re.findall(r"\d+", results[-1])[-1])

    program = lmprog.load(path, lms={"lm": scripted(answer)})
    questions = ["What is 1 and 2?", "What is 3 and 4?"]
    result = asyncio.run(program.run({"questions": questions}))
    assert result.outputs == {"answers": [3, 7], "lost": 0}
    module = program.plan.modules["ask"]
    demos = bootstrapped(module, [RowScore(0, 0, 1.0, result)], 1.0, 0.0)
    added = {"tool": "add", "arguments": {"a": 1, "b": 2}, "result": 3}
    assert demos == [
        {"question": questions[0], "tool_calls": [[added, added]], "answer": 3},
        {
            "question": questions[1],
            "tool_calls": [
                {"tool": "add", "arguments": {"a": 3}, "error": "add lacks the argument 'b'"},
                {"tool": "add", "arguments": {"a": 3, "b": 4}, "result": 7},
            ],
            "answer": 7,
        },
    ]
    overlay = path.with_name("program.tuned.yaml")
    overlay.write_text(write_overlay(overlay, path, Candidate(demos={"ask": demos}).as_overlay(), {}))
    tuned = lmprog.load(overlay, lms={"lm": scripted(answer)})
    assert [dict(demo) for demo in tuned.plan.modules["ask"].demos] == demos
    asked.clear()
    asyncio.run(tuned.run({"questions": ["What is 5 and 6?"]}))
    shown = next(texts for texts in asked if texts[-1] == "What is 5 and 6?")
    assert shown.index(questions[0]) < shown.index(questions[1]) < shown.index("What is 5 and 6?")
    said = (
        "error: add lacks the argument 'b'"
        if protocol == "native"
        else "<error tool=\"add\">add lacks the argument 'b'</error>"
    )
    assert said.format("add lacks the argument 'b'") in shown and shown[-2] == "7"
