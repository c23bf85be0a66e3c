"""The most that one run may spend, which a budget reserves for a run in another process."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from lmprog.compiler.bounds import bounds
from lmprog.compiler.plan import Plan
from lmprog.spending.budget import Spent
from lmprog.spending.worst_case import Growth, asks

COUNTED = frozenset({"lm_calls", "seconds", "minutes"})
"""Limits for which the number of calls is enough; the others need a bound of each call's tokens."""


def most_of_runs(plan: Plan) -> Callable[[Collection[str], Mapping[str, Any]], Spent]:
    """Return a function from the names of a budget's limits and the inputs of a run of `plan` to the most that the run can
    spend. Seconds are 0, and so are tokens and dollars where only calls or time are limited.

    An amount that nothing bounds (a `foreach` over a list of any length, an unknown price) is infinite.
    """
    found = bounds(plan)
    calls: Any = found.total_calls if found.bounded else math.inf

    def most(limits: Collection[str], inputs: Mapping[str, Any]) -> Spent:
        if COUNTED.issuperset(limits):
            return Spent(calls)
        each = asks(plan, [inputs], Growth())
        if not found.bounded:
            return Spent(calls, calls, calls, calls)
        prompt: Any = sum(_times(ask.calls, ask.prompt) for ask in each)
        reply: Any = sum(_times(ask.calls, ask.reply) for ask in each)
        return Spent(calls, prompt, reply, sum(_times(1, ask.usd) for ask in each))

    return most


def _times(count: float, amount: float | None) -> float:
    return count * amount if amount is not None else math.inf
