"""Budgets count what is spent, and no limit is ever exceeded."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmprog
from lmprog.compiler.plan import LM
from lmprog.errors import BudgetExceeded, UsageError
from lmprog.lms.lm import Completion, Request, Usage
from lmprog.spending.budget import LIMITS, Budget, Spent

PRICED = LM("lm", "openai/x", price={"input": 2.0, "output": 8.0})
WORDS = [{"role": "user", "content": "word " * 20}]


class Answers:
    def __init__(self, usage: Usage | None = None) -> None:
        self.usage = usage or Usage(30, 5, 0.25)

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        return Completion("x", usage=self.usage)


@pytest.mark.parametrize(
    ("limits", "made"), [({"lm_calls": 3}, 3), ({"tokens": 72}, 2), ({"usd": 0.6}, 2), ({"minutes": 0}, 0), ({}, 10)]
)
def test_the_call_that_could_exceed_a_limit_is_refused(limits: dict, made: int) -> None:
    budget = Budget(limits)
    lm = budget.meter(Answers())

    async def run() -> int:
        for count in range(10):
            try:
                await lm.complete(Request([], {"max_tokens": 5}))
            except BudgetExceeded:
                return count
        return 10

    assert asyncio.run(run()) == made
    assert budget.spent.lm_calls == made
    assert budget.spent.prompt_tokens == 30 * made


def test_a_limit_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(UsageError, match="the budget 'usd' is not a number"):
        Budget({"lm_calls": 10**400, "usd": float("nan")})


@given(
    st.sampled_from(["lm_calls", "prompt_tokens", "completion_tokens", "tokens", "usd"]),
    st.floats(0.0, 900.0),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=25),
)
def test_no_limit_is_exceeded_by_calls_at_the_same_time(name: str, limit: float, replies: list) -> None:
    limit = limit / 1e6 if name == "usd" else limit
    budget = Budget({name: limit})

    async def one(prompt: int, reply: int) -> None:
        cost = (2.0 * prompt + 8.0 * reply) / 1e6
        lm = budget.meter(Answers(Usage(prompt, reply, cost)), PRICED)
        await lm.complete(Request(WORDS, {"max_tokens": 30}))

    async def run() -> list:
        return await asyncio.gather(*(one(*reply) for reply in replies), return_exceptions=True)

    outcomes = asyncio.run(run())
    assert all(outcome is None or isinstance(outcome, BudgetExceeded) for outcome in outcomes)
    assert getattr(budget.spent, name) <= limit + 1e-12


def test_a_call_waits_for_those_in_flight_before_it_is_refused() -> None:
    # Two calls could cost 100 tokens each, and 130 may be spent: the second fits once the first turned out to cost 35.
    budget = Budget({"tokens": 130})
    lm = budget.meter(Answers())

    async def run() -> None:
        await asyncio.gather(*(lm.complete(Request([], {"max_tokens": 95})) for _ in range(2)))

    asyncio.run(run())
    assert budget.spent.tokens == 70


def test_a_resumed_budget_goes_on_from_what_was_spent() -> None:
    lm = Budget({"lm_calls": 4}, Spent(lm_calls=4)).meter(Answers())
    with pytest.raises(BudgetExceeded, match="budget of 4 lm calls is spent"):
        asyncio.run(lm.complete(Request([])))


def test_wrong_budgets_are_refused_with_what_to_write() -> None:
    with pytest.raises(UsageError, match=f"no budget 'euros'; it is one of {LIMITS[0]}"):
        Budget({"euros": 1})
    lm = Budget({"usd": 1}).meter(Answers(), LM("remote", "openai/nobody-knows"))
    with pytest.raises(UsageError, match=r"lms\.remote\.price"):
        asyncio.run(lm.complete(Request(WORDS)))


def test_sub_programs_pay_too(
    write: Callable[..., object], program: Callable[..., lmprog.Program], scripted: type
) -> None:
    inner = """
        lmprog: 1
        name: inner
        lms: {lm: {model: openai/none, trusted: true}}
        modules:
          say: {inputs: {text: str}, outputs: {score: float}}
    """
    budget = Budget({"lm_calls": 3})
    made = program(
        """
        name: outer
        inputs: {text: str}
        outputs: {score: "${{ steps.inner.score }}"}
        steps:
          inner: {program: ./inner.yaml, with: {text: "${{ inputs.text }}"}}
        """,
        scripted(lambda request: "0.5"),
        inner__yaml=inner,
    ).with_budget(budget)
    with pytest.raises(BudgetExceeded):
        made.map([{"text": text} for text in "abcd"])
    assert budget.spent.lm_calls == 3


@pytest.mark.slow
def test_a_budget_that_threads_share_is_kept_and_wakes_each_that_waits() -> None:
    async def calls(lm: lmprog.LM) -> int:
        each = (lm.complete(Request([], {"max_tokens": 5})) for _ in range(70))
        found = await asyncio.wait_for(asyncio.gather(*each, return_exceptions=True), 60)
        return sum(isinstance(one, Completion) for one in found)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(8):
            budget = Budget({"lm_calls": 200})
            lm = budget.meter(Answers())
            with ThreadPoolExecutor(4) as pool:
                made = sum(pool.map(lambda lm: asyncio.run(calls(lm)), [lm] * 4))
            assert made == 200 == budget.spent.lm_calls
            assert budget.spent.prompt_tokens == 200 * 30
    finally:
        sys.setswitchinterval(before)


def test_a_call_is_counted_with_its_tokens_in_the_moment_in_which_its_reserve_is_freed() -> None:
    budget = Budget({"tokens": 72})
    found: list[tuple[int, int]] = []

    class Watched:
        """A lock that notes what another thread would find after each release."""

        def __enter__(self) -> None:
            pass

        def __exit__(self, *error: object) -> None:
            found.append((budget._in_flight, budget.spent.prompt_tokens))

    budget._lock = Watched()  # type: ignore[assignment]
    asyncio.run(budget.meter(Answers()).complete(Request([], {"max_tokens": 5})))
    assert found == [(1, 0), (0, 30)]
    assert budget.largest == Spent(1, 30, 5, 0.25)
