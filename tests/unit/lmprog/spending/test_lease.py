"""Leases: what a budget reserves for work elsewhere, and what it counts when that has ended, failed, or was cancelled."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import pytest

from lmprog.compiler.plan import Plan
from lmprog.errors import BudgetExceeded, UsageError
from lmprog.spending.budget import Budget, Spent
from lmprog.spending.lease import most_of_runs


def lent(budget: Budget, most: Spent, spent: Spent | BaseException, log: list[Any] | None = None) -> Any:
    async def work(limits: dict[str, float]) -> tuple[str, Spent, Spent]:
        if log is not None:
            log.append(limits)
        await asyncio.sleep(0)
        if isinstance(spent, BaseException):
            raise spent
        return "done", spent, spent

    return budget.lend(most, work)


def test_what_was_not_spent_is_given_back() -> None:
    budget, leases = Budget({"lm_calls": 10}), []
    assert asyncio.run(lent(budget, Spent(7), Spent(2), leases)) == "done"
    assert asyncio.run(lent(budget, Spent(7), Spent(2), leases)) == "done"
    assert budget.spent.lm_calls == 4
    assert leases == [{"lm_calls": 7}, {"lm_calls": 7}]


def test_the_last_lease_is_what_is_left_and_then_there_is_none() -> None:
    budget, leases = Budget({"lm_calls": 10, "usd": 1.0}), []
    asyncio.run(lent(budget, Spent(8, usd=0.9), Spent(8, usd=0.5), leases))
    asyncio.run(lent(budget, Spent(8, usd=0.9), Spent(2, usd=0.1), leases))
    assert leases[1] == {"lm_calls": 2, "usd": 0.5}
    with pytest.raises(BudgetExceeded, match="the budget of 10 lm calls is spent"):
        asyncio.run(lent(budget, Spent(1), Spent(1)))


@pytest.mark.parametrize("error", [UsageError("a"), asyncio.CancelledError()])
def test_work_that_fails_counts_as_all_that_was_reserved(error: Any) -> None:
    budget = Budget({"lm_calls": 10})
    with pytest.raises(type(error)):
        asyncio.run(lent(budget, Spent(4), error))
    assert budget.spent.lm_calls == 4


def test_an_infinite_amount_takes_all_and_waits_for_the_others() -> None:
    budget, leases = Budget({"tokens": 1000}), []
    unbounded: Any = Spent(1, math.inf, math.inf)  # type: ignore[arg-type]

    async def run() -> None:
        await asyncio.gather(
            lent(budget, Spent(1, 100, 100), Spent(1, 50, 50), leases),
            lent(budget, unbounded, Spent(1, 10, 10), leases),
        )

    asyncio.run(run())
    assert leases == [{"tokens": 200}, {"tokens": 900}]
    assert budget.spent.tokens == 120


def test_time_is_passed_on_and_not_reserved() -> None:
    budget, leases = Budget({"minutes": 5}), []
    asyncio.run(lent(budget, Spent(1), Spent(1), leases))
    assert 4.9 < leases[0]["minutes"] <= 5


@pytest.mark.parametrize("seed", range(20))
def test_leases_and_calls_together_never_exceed_the_budget(seed: int) -> None:
    draw = random.Random(seed)
    limit = draw.randrange(1, 60)
    budget, sent = Budget({"lm_calls": limit}), 0

    async def one() -> None:
        nonlocal sent
        most = draw.randrange(1, 9)

        async def work(limits: dict[str, float]) -> tuple[None, Spent, Spent]:
            nonlocal sent
            made = 0
            for _ in range(draw.randrange(most + 1)):
                if made < limits["lm_calls"]:
                    made, sent = made + 1, sent + 1
                await asyncio.sleep(0)
            if draw.random() < 0.2:
                raise UsageError("a")
            return None, Spent(made), Spent(1)

        await budget.lend(Spent(most), work)

    async def run() -> None:
        await asyncio.gather(*(one() for _ in range(40)), return_exceptions=True)

    asyncio.run(run())
    assert sent <= budget.spent.lm_calls <= limit


def test_the_most_of_a_run_follows_from_its_calls_and_their_tokens(program) -> None:
    plan: Plan = program("""
        inputs: {text: str}
        outputs: {said: "${{ steps.a.said }}"}
        modules: {say: {lm: lm, retry: 2, inputs: {text: str}, outputs: {said: str}, instructions: Say it.}}
        steps:
          a: {module: say, with: {text: "${{ inputs.text }}"}}
          b: {module: say, with: {text: "${{ steps.a.said }}"}}
    """).plan
    most = most_of_runs(plan)
    assert most({"lm_calls", "minutes"}, {"text": "a"}) == Spent(6)
    # Nothing bounds the reply of an unknown model without max_tokens.
    assert most({"tokens"}, {"text": "a"}).completion_tokens == math.inf
