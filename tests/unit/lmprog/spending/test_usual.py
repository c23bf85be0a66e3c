"""The estimate beside the worst case: its numbers on a small program, and no part of it above the bound."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lmprog.compiler.bounds import known_lists
from lmprog.spending.estimate import Forecast, Part, timed
from lmprog.spending.worst_case import Growth, asks

SPEC = """
    name: desk
    inputs: {text: str, parts: "list[str]"}
    outputs: {label: "${{ steps.sort.label }}", more: "${{ steps.again.said }}"}
    modules:
      sort: {lm: lm, inputs: {text: str}, outputs: {label: str}, instructions: Say which., retry: 3}
      each: {lm: lm, inputs: {part: str}, outputs: {said: str}, instructions: Say it.}
      again: {lm: lm, inputs: {label: str}, outputs: {said: str}, instructions: Say it again.}
    steps:
      sort: {module: sort, with: {text: "${{ inputs.text }}"}}
      each: {foreach: "${{ inputs.parts }}", module: each, with: {part: "${{ item }}"}}
      turn:
        repeat: 5
        state: {said: {type: str, start: ""}}
        steps: {once: {module: again, with: {label: "${{ steps.sort.label }}"}}}
        next: {said: {set: "${{ steps.once.said }}"}}
      again: {module: again, with: {label: "${{ steps.sort.label }}"}}
"""
ROWS = [{"text": "a" * 40, "parts": ["a"]}, {"text": "a" * 80, "parts": ["a", "b", "c"]}]


@pytest.fixture
def forecast(program):
    def made(folders: tuple[Path, ...] = (), rows: list[dict] = ROWS, **lm: object) -> Forecast:
        plan = known_lists(program(SPEC).plan, rows)
        known = {"context": 5000, "params": {"max_tokens": 40}, "price": {"input": 1.0, "output": 4.0}, **lm}
        plan = replace(plan, lms={"lm": replace(plan.lms["lm"], **known)})
        return timed(plan, 4, [Part("runs", [ask.times(10) for ask in asks(plan, rows, Growth())])], folders)

    return made


def test_loops_take_one_turn_lists_what_the_rows_give_and_nothing_is_retried(forecast) -> None:
    found = forecast()
    most, usual = found.parts[0], found.estimated[0]
    # At most 4 tries of `sort`, 3 items, 5 turns and 1 call; usually 1, 2 (the mean of 1 and 3), 1 and 1.
    assert (most.lm_calls, usual.lm_calls) == (10 * (4 + 3 + 5 + 1), 10 * (1 + 2 + 1 + 1))
    assert usual.completion_tokens == 50 * 10  # a quarter of `max_tokens`
    assert most.completion_tokens == 130 * 40
    for key in ("lm_calls", "prompt_tokens", "completion_tokens", "usd", "seconds"):
        assert 0 < getattr(usual, key) <= getattr(most, key), key


def test_a_prompt_is_as_long_as_the_rows_make_it_on_average(forecast) -> None:
    first, _each, turn, again = forecast().estimated[0].asks
    shorter, longer = (forecast(rows=[row]).estimated[0].asks[0].prompt for row in ROWS)
    assert longer - shorter == pytest.approx(10)  # 40 characters are 10 tokens
    assert first.prompt == pytest.approx((shorter + longer) / 2)
    # A value that only a run gives is as long as a reply.
    assert again.prompt == turn.prompt == forecast(params={"max_tokens": 80}).estimated[0].asks[3].prompt - 10


def test_replies_are_as_long_as_those_of_a_finished_run_but_never_above_their_limit(forecast, tmp_path: Path) -> None:
    def after(tokens: int) -> Forecast:
        spent = {"lm_calls": 100, "seconds": 50.0, "completion_tokens": tokens}
        (tmp_path / "report.json").write_text(json.dumps({"spent": spent, "stages": []}))
        return forecast((tmp_path,))

    found = after(2500)
    assert found.reply == 25 and found.estimated[0].completion_tokens == 50 * 25
    assert after(90_000).estimated[0].completion_tokens == 50 * 40


def test_without_a_limit_of_replies_the_estimate_has_a_number_where_the_bound_has_none(forecast) -> None:
    found = forecast(params={}, context=None)
    assert found.parts[0].completion_tokens is None and found.estimated[0].completion_tokens == 50 * 256
