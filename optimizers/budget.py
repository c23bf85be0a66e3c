"""What a run may spend and has spent: LM calls, tokens, money and time, of program, proposer and judges together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lmprog.errors import BudgetExceeded
from lmprog.lms.lm import LM, Completion, Request

LIMITS = ("lm_calls", "prompt_tokens", "completion_tokens", "tokens", "usd", "seconds", "minutes")


@dataclass
class Spent:
    """`usd` counts replies whose price is known."""

    lm_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def since(self, earlier: Spent) -> Spent:
        """What was spent after `earlier`."""
        return Spent(*(getattr(self, part.name) - getattr(earlier, part.name) for part in fields(self)))


class Budget:
    """Counts what is spent, and refuses the call that would exceed one of its limits, named as in LIMITS."""

    def __init__(self, limits: Mapping[str, float], spent: Spent | None = None) -> None:
        self.limits = limits
        self._spent = spent or Spent()
        self._in_flight = 0
        self._started = time.monotonic() - self._spent.seconds

    @property
    def spent(self) -> Spent:
        """A copy, as of now."""
        now = Spent(**asdict(self._spent))
        now.seconds = time.monotonic() - self._started
        return now

    def meter(self, lm: LM) -> LM:
        """`lm`, with its calls counted and refused with BudgetExceeded where the budget is spent."""
        return _Metered(lm, self)

    def check(self) -> None:
        """Raises BudgetExceeded where one more call could exceed a limit."""
        spent = self.spent
        used = {
            "lm_calls": spent.lm_calls + self._in_flight + 1,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "tokens": spent.prompt_tokens + spent.completion_tokens,
            "usd": spent.usd,
            "seconds": spent.seconds,
            "minutes": spent.seconds / 60,
        }
        for name, limit in self.limits.items():
            if used[name] > limit:
                raise BudgetExceeded(f"the budget of {limit:g} {name.replace('_', ' ')} is spent")


class _Metered:
    def __init__(self, lm: LM, budget: Budget) -> None:
        self.lm, self.budget = lm, budget

    async def complete(self, request: Request) -> Completion:
        self.budget.check()
        self.budget._in_flight += 1
        try:
            completion = await self.lm.complete(request)
        finally:
            self.budget._in_flight -= 1
            self.budget._spent.lm_calls += 1
        if completion.usage is not None:
            self.budget._spent.prompt_tokens += completion.usage.prompt_tokens
            self.budget._spent.completion_tokens += completion.usage.completion_tokens
            self.budget._spent.usd += completion.usage.usd or 0.0
        return completion
