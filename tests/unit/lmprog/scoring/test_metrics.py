"""Metrics: Python functions, judges, arithmetic; ranges, failures and stand-ins."""

from __future__ import annotations

import asyncio
import textwrap
from typing import Any

import pytest

import lmprog
from lmprog import ProviderError, UsageError
from lmprog.scoring.metrics import MetricFailed, Score, Scorer

SPEC = """
    inputs: {text: str}
    outputs: {label: "${{ steps.ask.label }}"}
    modules:
      ask: {lm: lm, inputs: {text: str}, outputs: {label: str}}
    steps:
      ask: {module: ask, with: {text: "${{ inputs.text }}"}}
    data: {dev: dev.jsonl}
    metrics:
"""
FUNCTIONS = """
    import asyncio, lmprog

    def exact(label, wanted): return label == wanted
    def long(label, wanted): return len(label)
    def nan(label, wanted): return float("nan")
    def nothing(label, wanted): return None
    def fails(label, wanted): raise ValueError("no wanted")
    def with_words(label, wanted): return lmprog.Score(0.25, "too short")
    async def cancelled(label, wanted): raise asyncio.CancelledError
    async def slowly(label, wanted):
        await asyncio.sleep(0)
        return 0.5
"""
CALL = 'with: {label: "${{ outputs.label }}", wanted: "${{ row.label }}"}'


@pytest.fixture
def score(program, scripted, write):
    def score(metrics: str, answer: Any = "x", metric: str = "m", **files: str) -> Score:
        write('{"text": "a", "label": "x"}\n', "dev.jsonl")
        text = textwrap.dedent(SPEC) + textwrap.indent(textwrap.dedent(metrics).strip(), "  ") + "\n"
        made = program(text, scripted(lambda request: answer), metrics__py=FUNCTIONS, **files)
        return asyncio.run(scored(made, metric))

    return score


async def scored(program: lmprog.Program, metric: str) -> Score:
    row = {"text": "a", "label": "x"}
    return await Scorer(program, metric).score({"text": "a"}, row, await program.run({"text": "a"}))


@pytest.mark.parametrize(
    ("name", "answer", "wanted"),
    [
        ("exact", "x", Score(1.0)),
        ("exact", "y", Score(0.0)),
        ("slowly", "x", Score(0.5)),
        ("with_words", "x", Score(0.25, "too short")),
    ],
)
def test_a_function(score, name, answer, wanted) -> None:
    assert score(f"m: {{python: ./metrics.py:{name}, {CALL}}}", answer) == wanted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "long",
            "the metric 'm' gave 3.0, outside its range 0.0 to 1.0; return a value within it, or set `range` on the metric",
        ),
        ("nan", "the metric 'm' gave nan, outside its range"),
        ("fails", "the metric 'm' raised ValueError: no wanted"),
        ("nothing", "the metric 'm' raised TypeError"),
        ("cancelled", "the metric 'm' raised CancelledError"),
    ],
)
def test_a_function_that_gives_no_score(score, name, message) -> None:
    with pytest.raises(MetricFailed) as caught:
        score(f"m: {{python: ./metrics.py:{name}, {CALL}}}", "abc")
    assert str(caught.value).replace("range 0 to 1", "range 0.0 to 1.0").startswith(message)


def test_a_range_of_its_own(score) -> None:
    assert score(f"m: {{python: ./metrics.py:long, {CALL}, range: [0, 10]}}", "abc").value == 3.0


def test_on_error_stands_in(score) -> None:
    found = score(f"m: {{python: ./metrics.py:fails, {CALL}, on_error: 0.1}}")
    assert found == Score(0.1, "the metric failed: no wanted")


def test_arithmetic_over_other_metrics(score) -> None:
    metrics = f"""
        m: {{value: "${{{{ 0.5 * metrics.exact + 0.25 * metrics.both }}}}"}}
        exact: {{python: ./metrics.py:exact, {CALL}}}
        both: {{value: "${{{{ metrics.exact }}}}"}}
    """
    assert score(metrics).value == 0.75
    assert score(metrics, "y").value == 0.0


def test_an_unknown_metric(score) -> None:
    with pytest.raises(UsageError, match="has no metric 'n' \\(it has: m\\)"):
        score(f"m: {{python: ./metrics.py:exact, {CALL}}}", metric="n")


JUDGE = """
    lmprog: 1
    inputs: {label: str}
    outputs: {score: "${{ steps.judge.score }}"}
    lms: {lm: {model: openai/judge}}
    modules:
      judge: {lm: lm, inputs: {label: str}, outputs: {why: str, score: float}}
    steps:
      judge: {module: judge, with: {label: "${{ inputs.label }}"}}
"""


UNREADABLE = "the judge 'm' failed: judge: the reply has no output 'why'; the reply begins \"no\""


@pytest.mark.parametrize(
    ("reply", "more", "wanted"),
    [
        ("<why>good</why><score>0.75</score>", "", Score(0.75)),
        ("no", "", MetricFailed(UNREADABLE)),
        ("no", ", on_error: 0", Score(0.0, f"the metric failed: {UNREADABLE}")),
        (ProviderError("down"), ", on_error: 0", ProviderError("judge: down")),
    ],
)
def test_a_judge(score, scripted, monkeypatch, reply, more, wanted) -> None:
    monkeypatch.setattr("lmprog.lms.making.make_lm", lambda declared: scripted(lambda request: reply))
    metric = f'm: {{program: ./judge.yaml, with: {{label: "${{{{ outputs.label }}}}"}}{more}}}'
    if isinstance(wanted, Score):
        assert score(metric, judge__yaml=JUDGE) == wanted
        return
    with pytest.raises(type(wanted)) as caught:
        score(metric, judge__yaml=JUDGE)
    assert str(caught.value) == str(wanted)
