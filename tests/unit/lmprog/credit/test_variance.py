"""Shares of the variance, against programs of which they are known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product
from statistics import fmean, pvariance
from typing import Any

import pytest

import lmprog
from lmprog import BudgetExceeded, Completion, ProviderError
from lmprog.credit.order import Order
from lmprog.credit.replies import Replies
from lmprog.credit.variance import Credit, measure
from lmprog.runtime.options import RunOptions
from lmprog.scoring.metrics import MetricFailed
from lmprog.seeds import derive
from lmprog.spending.budget import Budget

HEAD = """
    inputs: {text: str}
    modules:
      one: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: One}
      two: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: Two}
    data: {dev: dev.jsonl}
    metrics: {gain: {python: "./metrics.py:gain", with: {said: "${{ outputs.said }}"}}}
"""
BESIDE = """
    outputs: {said: "${{ steps.a.said + steps.b.said }}"}
    steps:
      a: {module: one, with: {text: "${{ inputs.text }}"}}
      b: {module: two, with: {text: "${{ inputs.text }}"}}
"""
AFTER = """
    outputs: {said: "${{ steps.a.said + steps.b.said }}"}
    steps:
      a: {module: one, with: {text: "${{ inputs.text }}"}}
      b: {module: two, with: {text: "${{ steps.a.said }}"}}
"""
LOOP = """
    outputs: {said: "${{ steps.turns.said }}"}
    steps:
      turns:
        repeat: 2
        state: {said: {type: str, start: ""}}
        steps:
          a: {module: one, with: {text: "${{ 'x' + state.said }}"}}
          b: {module: two, with: {text: "${{ state.said + steps.a.said }}"}}
        next: {said: {set: "${{ state.said + steps.a.said + steps.b.said }}"}}
"""


def bit(request: Any) -> str:
    """0 or 1 by the seed and by all that is asked, as an LM at temperature 1 draws."""
    return str(derive(request.seed, str(request.messages)) & 1)


@pytest.fixture
def drawing(program, scripted, write) -> Callable[..., lmprog.Program]:
    """A program whose metric is `gain(said)`, an expression, and whose LM answers with bits."""

    def make(steps: str, gain: str, answer: Callable[[Any], Any] = bit) -> lmprog.Program:
        write('{"text": "0"}\n', "dev.jsonl")
        made: lmprog.Program = program(
            HEAD + steps, scripted(answer), metrics__py=f"def gain(said):\n    return {gain}\n"
        )
        return made

    return make


def measured(program: lmprog.Program, rows: int = 40, repeats: int = 8, **how: Any) -> Credit:
    data = [{"text": str(number)} for number in range(rows)]
    return asyncio.run(measure(program, data, "gain", repeats=repeats, **how))


def shares(credit: Credit) -> dict[str, float]:
    return {module.module: module.share.mean for module in credit.modules if module.share is not None}


@pytest.mark.slow
def test_what_is_added_shares_by_the_squares(drawing) -> None:
    credit = measured(drawing(BESIDE, "0.8 * int(said[0]) + 0.2 * int(said[1])"), rows=100)
    found = {module.module: module.share for module in credit.modules}
    assert found["one"].mean == pytest.approx(0.64 / 0.68, abs=0.06)
    assert found["two"].mean == pytest.approx(0.04 / 0.68, abs=0.02)
    assert all(share.ci95[0] < share.mean < share.ci95[1] for share in found.values())
    assert found["one"].ci95[0] < 0.64 / 0.68 < found["one"].ci95[1]
    assert credit.deviation == pytest.approx((0.68 / 4) ** 0.5, abs=0.02)
    assert credit.rest.mean == 0


@pytest.mark.slow
def test_an_interplay_of_modules_side_by_side_counts_for_both(drawing) -> None:
    found = shares(measured(drawing(BESIDE, "said[0] != said[1]")))
    assert found == {"one": pytest.approx(1, abs=0.15), "two": pytest.approx(1, abs=0.15)}


@pytest.mark.slow
def test_words_that_change_nothing_have_no_share_though_all_that_follows_draws_anew(drawing) -> None:
    credit = measured(drawing(AFTER, "int(said[1])"), rows=100)
    one, two = credit.modules
    assert one.share.mean == pytest.approx(0, abs=0.1)
    assert two.share.mean == pytest.approx(1, abs=0.1)
    assert (one.reached.mean, two.reached) == (1, two.share)


@pytest.mark.slow
def test_a_module_that_repeats_what_it_reads_has_no_share(drawing) -> None:
    def answer(request: Any) -> str:
        return bit(request) if "One" in request.messages[0]["content"] else request.messages[-1]["content"]

    assert shares(measured(drawing(AFTER, "int(said[1])", answer))) == {"one": 1, "two": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "gain"),
    [
        (AFTER, "(int(said[0]) + int(said[0]) * int(said[1])) / 2"),
        (LOOP, "(int(said[0]) * int(said[1]) + int(said[2]) * (1 - int(said[3])) + int(said[0])) / 3"),
    ],
)
def test_as_computed_from_all_that_can_be_said(drawing, steps: str, gain: str) -> None:
    score: Callable[[str], float] = eval(f"lambda said: {gain}")
    length = 2 if steps is AFTER else 4

    def expected(begun: str) -> float:
        return fmean(score(begun + "".join(rest)) for rest in product("01", repeat=length - len(begun)))

    whole = pvariance([score("".join(said)) for said in product("01", repeat=length)])
    wanted = {"one": 0.0, "two": 0.0}
    for place in range(length):
        advantages = [
            pvariance([expected("".join(begun) + bit) for bit in "01"]) for begun in product("01", repeat=place)
        ]
        wanted[["one", "two"][place % 2]] += fmean(advantages) / whole
    credit = measured(drawing(steps, gain), rows=60)
    assert shares(credit) == {module: pytest.approx(share, abs=0.1) for module, share in wanted.items()}
    assert sum(shares(credit).values()) == pytest.approx(1)


def test_only_what_may_change_is_asked_again(drawing) -> None:
    program = drawing(AFTER, "int(said[1])")
    lm = program.lms["lm"]
    credit = measured(program, rows=2, repeats=3)
    modules = ["One" if "One" in request.messages[0]["content"] else "Two" for request in lm.requests]
    assert (modules.count("One"), modules.count("Two")) == (6, 12)  # only `two` is sampled anew
    assert credit.runs == 2 * 3 * (1 + 2)  # with it anew, and with nothing anew
    loop = drawing(LOOP.replace("module: two", "module: one"), "int(said[1])")
    assert measured(loop, rows=1, repeats=2).runs == 2 * (1 + 1)  # of a single module nothing is to be told apart


def test_the_same_seed_gives_the_same_report_and_another_gives_another(drawing) -> None:
    program = drawing(AFTER, "(int(said[0]) + int(said[0]) * int(said[1])) / 2")
    first, again, other = (measured(program, 6, options=RunOptions(seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_what_does_not_vary_has_no_shares(drawing) -> None:
    credit = measured(drawing(AFTER, "0.5"), rows=2)
    assert (credit.deviation, credit.rest) == (0, None)
    assert [(module.share, module.reached) for module in credit.modules] == [(None, None)] * 2


@pytest.mark.slow
def test_a_metric_that_draws_by_itself_is_the_rest(drawing, write) -> None:
    program = drawing(AFTER, "next(draws)")
    write(
        "import itertools\ndraws = itertools.cycle([0, 1, 1, 0, 1, 0, 0, 1, 1])\ndef gain(said):\n    return next(draws)\n",
        "metrics.py",
    )
    credit = measured(program, rows=200)  # so many that it does not matter which run is scored first
    assert credit.rest.mean == pytest.approx(1, abs=0.2)
    assert credit.rest.mean > 0.5 > max(shares(credit).values())
    assert sum(shares(credit).values()) + credit.rest.mean == pytest.approx(1)


def test_failures_are_counted_and_left_out(drawing) -> None:
    def answer(request: Any) -> Any:
        row, rollout, *_ = request.key
        return ProviderError("down") if row == "0" or rollout == 1 else bit(request)

    credit = measured(drawing(AFTER, "int(said[1])", answer), rows=3, repeats=3)
    assert credit.rows == 2
    assert credit.lost["provider"][0] == 5 and "down" in credit.lost["provider"][1]
    with pytest.raises(ProviderError, match="no row has two runs"):
        measured(drawing(AFTER, "int(said[1])", lambda request: ProviderError("down")), rows=1)


def test_what_fails_by_itself_has_a_reward_and_is_counted(drawing) -> None:
    program = drawing(AFTER, "int(said[0]) if said[0] == '1' else 1 / 0")
    credit, lower = measured(program, rows=6), measured(program, rows=6, format_failure=-1.0)
    assert credit.lost == {} and credit.rows == 6
    count, cause = credit.failed["metric"]
    assert 0 < count < credit.runs and "ZeroDivisionError: division by zero (metrics.py:2)" in cause
    assert credit.as_json()["failed"]["metric"]["runs"] == count
    assert lower.deviation == pytest.approx(2 * credit.deviation)
    with pytest.raises(MetricFailed, match=r"no run could be scored: .* raised ZeroDivisionError"):
        measured(drawing(AFTER, "1 / 0"), rows=2)


def test_a_run_that_an_outage_ended_is_made_again(drawing) -> None:
    asked: list[Any] = []

    def answer(request: Any) -> Any:
        asked.append(request.key)
        return ProviderError("down") if request.key[1] == 1 and asked.count(request.key) == 1 else bit(request)

    credit = measured(drawing(AFTER, "int(said[1])", answer), rows=3, repeats=3)
    assert (credit.rows, credit.lost) == (3, {})


def test_a_budget_ends_between_rows(drawing) -> None:
    program = drawing(AFTER, "int(said[1])")
    budget = Budget({"lm_calls": 250})
    credit = measured(program.with_budget(budget), rows=20, repeats=8)
    assert credit.rows == 8 and credit.note == "the budget of 250 lm calls is spent, after 8 of 20 rows"
    with pytest.raises(BudgetExceeded):
        measured(program.with_budget(Budget({"lm_calls": 3})), rows=2)


def test_a_replayed_reply_is_the_providers_own_turn(drawing) -> None:
    # An agent's next request repeats it, and would otherwise be another one than was recorded.
    said = Completion(text="1", message={"content": "1", "reasoning": "long"}, model="m-1", id="r1")
    program = drawing(BESIDE, "1", lambda request: said)
    result = asyncio.run(program.run({"text": "0"}))
    replay = Replies(Order(program.plan), result.trace).but(frozenset())
    found = replay(program.lms["lm"].requests[0])
    assert found is not None and (found.message, found.model, found.id) == (said.message, "m-1", "r1")
