"""Budgets: limits and spending in LM calls, tokens, money and time, of a program, its judges and its proposer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol, TypeVar

from lmprog.aio.loops import end_wait
from lmprog.compiler import model_table
from lmprog.compiler.plan import LM as Declared
from lmprog.compiler.tokens import USUAL_REPLY, reply_limit
from lmprog.errors import BudgetExceeded, UsageError
from lmprog.lms.lm import LM, Completion, Request

T = TypeVar("T")
LIMITS = ("lm_calls", "prompt_tokens", "completion_tokens", "tokens", "usd", "seconds", "minutes")
"""The names of the limits that a budget may have."""
TIMES = ("seconds", "minutes")
"""The names of the limits on time, which is spent whether LMs are called or not."""
BYTES_PER_TOKEN = 2
"""Bytes assumed in a token to bound a prompt's tokens; text of any language has more bytes in a token."""
TOKENS_PER_MESSAGE = 16
"""Maximum tokens that a chat template is taken to add to a message."""


@dataclass
class Spent:
    """Amounts spent: LM calls, tokens, US dollars (of replies whose price is known) and seconds; also the most that a call
    or run can spend, where an amount may be infinite."""

    lm_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """The tokens of prompts and replies together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def minutes(self) -> float:
        """The seconds in minutes."""
        return self.seconds / 60

    def as_json(self) -> dict[str, Any]:
        """Return the amounts as a dictionary: `lm_calls`, `prompt_tokens`, `completion_tokens`, `usd` and `seconds`."""
        return asdict(self)

    def since(self, earlier: Spent) -> Spent:
        """Return the difference from `earlier`, field by field."""
        return Spent(*(getattr(self, part.name) - getattr(earlier, part.name) for part in fields(self)))

    def plus(self, other: Spent) -> Spent:
        """Return the sum with `other`, field by field."""
        return Spent(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    def most(self, other: Spent) -> Spent:
        """Return the larger amount of this and `other`, field by field."""
        return Spent(*(max(getattr(self, part.name), getattr(other, part.name)) for part in fields(self)))


class Answers(Protocol):
    """The interface of a store of replies that a budget looks in before it calls an LM, as
    `lms.response_cache.RunResponseCache`.
    """

    async def complete(self, lm: LM, request: Request, declared: Declared | None) -> Completion:
        """Return the stored reply to a request, or send it to `lm` and store the reply. `declared` is the LM as the
        spec declares it (None: it has no declaration, and nothing is stored). Raises what `lm` raises."""


class Budget:
    """A counter of what LM calls cost, which refuses a call that could exceed one of the limits (by the names of
    LIMITS: `lm_calls`, `tokens`, `usd`, `minutes`, ...).

    A call reserves the most that it can cost until its reply is there. A call that does not fit beside the calls in
    flight waits for them; it is refused when it does not fit alone. An amount without a bound (a reply without
    `max_tokens`, the price of an LM without a declaration) is taken to be the largest seen so far, 0 at first. Replies
    that the response cache `answers` took from earlier processes count as if they were requested, so that a resumed run
    stops where the first would have stopped. A budget may be shared by threads. Raises UsageError for a limit of
    another name, and for one that is not a number (nan).
    """

    def __init__(self, limits: Mapping[str, float], spent: Spent | None = None, answers: Answers | None = None) -> None:
        unknown = sorted(set(limits) - set(LIMITS))
        if unknown:
            raise UsageError(f"there is no budget {unknown[0]!r}; it is one of {', '.join(LIMITS)}")
        limitless = next((name for name, limit in limits.items() if limit != limit), None)
        if limitless is not None:
            raise UsageError(f"the budget {limitless!r} is not a number, which would limit nothing")
        self.limits = limits
        self.answers = answers
        self._spent = spent or Spent()
        self._in_flight = 0
        self._set_aside = Spent()
        self.largest = Spent()
        """The largest amounts that one call took, each by itself."""
        self._waiting: list[asyncio.Future[None]] = []
        self._lock = threading.Lock()  # a tool in a thread may run a program that spends from the same budget
        self._started = time.monotonic() - self._spent.seconds

    @property
    def spent(self) -> Spent:
        """The amounts spent until now, as a copy; its seconds are those since the budget was made, and of earlier processes."""
        now = Spent(**asdict(self._spent))
        now.seconds = time.monotonic() - self._started
        return now

    def meter(self, lm: LM, declared: Declared | None = None) -> LM:
        """Return an LM that sends its requests to `lm` as `complete` does, and counts them in this budget; `declared`
        is the LM as the spec declares it, with its prices (None: unknown).

        Its calls raise what `complete` raises.
        """
        return _Metered(lm, self, declared)

    async def complete(self, lm: LM, request: Request, declared: Declared | None = None) -> Completion:
        """Send a request to `lm`, or take its reply from `answers`, when the budget has room for it; return the reply
        and count the call, and the tokens and dollars that the reply's `usage` states. A call that fails counts too,
        without tokens.

        `declared` is the LM as the spec declares it, with its prices (None: unknown). Raises BudgetExceeded where the
        largest possible cost of the call could exceed the budget, UsageError where a limit in `usd` meets an LM of
        unknown price, and what `lm` raises.
        """
        most = self._most(request, declared)
        while True:
            with self._lock:
                name = self._exceeded(most)
                if name is not None and not self._in_flight:
                    raise self.refusal(name)
                if name is None:
                    self._begin(most)
                    break
                freed = self._freed()
            await freed
        spent, largest = Spent(1), Spent()
        try:
            if self.answers is None:
                completion = await lm.complete(request)
            else:
                completion = await self.answers.complete(lm, request, declared)
            usage = completion.usage
            if usage is not None:
                spent = largest = Spent(1, usage.prompt_tokens, usage.completion_tokens, usage.usd or 0.0)
        finally:
            self._end(most, spent, largest)
        return completion

    async def lend(self, most: Spent, work: Callable[[dict[str, float]], Awaitable[tuple[T, Spent, Spent]]]) -> T:
        """Call `work`, which spends at most `most` in another process, with its limits by name; return its value.

        `work` returns its value, the amounts spent, and the largest amounts of one call. Until then `most` is reserved, of
        amounts that have a limit. Work that does not fit beside the calls in flight waits; work that does not fit alone
        gets all that is left. Where the work raises or is cancelled, the amounts are unknown, and all that was reserved
        counts as spent. Raises BudgetExceeded where not a single call is left, and what `work` raises.
        """
        while True:
            with self._lock:
                fits = self._exceeded(most) is None
                if not fits and not self._in_flight and (name := self._exceeded(Spent(1))) is not None:
                    raise self.refusal(name)
                if fits or not self._in_flight:
                    lease, reserved = self._leased(most)
                    self._begin(reserved)
                    break
                freed = self._freed()
            await freed
        spent, largest = reserved, Spent()
        try:
            value, spent, largest = await work(lease)
        finally:
            self._end(reserved, replace(spent, seconds=0.0), largest)
        return value

    def _leased(self, most: Spent) -> tuple[dict[str, float], Spent]:
        """Return the limits by name for work that may spend `most`, no more than is left, and the amounts to reserve for
        it, which are 0 where there is no limit."""
        left = self._left()
        reserved = Spent(
            int(min(most.lm_calls, left.get("lm_calls", 0))),
            int(min(most.prompt_tokens, left.get("prompt_tokens", left.get("tokens", 0)))),
            int(min(most.completion_tokens, left.get("completion_tokens", left.get("tokens", 0)))),
            min(most.usd, left.get("usd", 0.0)),
        )
        limits = {name: amount if name in TIMES else min(getattr(most, name), amount) for name, amount in left.items()}
        return limits, reserved

    def charge(self, spent: Spent, largest: Spent) -> None:
        """Count what an earlier process spent on the same run, its seconds included; `largest` has the most that one of its
        calls took of each amount.
        """
        with self._lock:
            self._spent = self._spent.plus(spent)
            self._started -= spent.seconds
            self.largest = self.largest.most(largest)

    def _most(self, request: Request, declared: Declared | None) -> Spent:
        """Return the largest possible cost of one call, by its prompt's bytes and the limit of its reply; without limits in
        this budget one call alone. Raises UsageError where a limit in `usd` meets an unknown price."""
        if not self.limits:
            return Spent(1)
        written = sum(len(str(message.get("content") or "").encode()) for message in request.messages)
        prompt = written // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE * len(request.messages)
        here = declared is not None and declared.runs_here
        others = [reply_limit(each.params) for each in declared.answering[1:]] if declared is not None else []
        replies = [reply_limit(request.params), *others]
        known = [limit or (USUAL_REPLY if here else self.largest.completion_tokens) for limit in replies]
        reply = max(known)
        usd = self.largest.usd
        if declared is not None and "usd" in self.limits:
            price = model_table.limits(declared)
            if price.prompt_usd is None or price.completion_usd is None:
                raise UsageError(
                    f"a budget in usd cannot be kept: the price of {declared.model} is unknown; write "
                    f"lms.{declared.id}.price: {{input: ..., output: ...}}, or set the budget in tokens"
                )
            usd = prompt * price.prompt_usd + reply * price.completion_usd
        return Spent(1, prompt, reply, usd)

    def _exceeded(self, more: Spent) -> str | None:
        """Return the name of the first limit that `more`, added to the amounts spent and reserved, would exceed, or None."""
        if not self.limits:
            return None
        total = self.spent.plus(more).plus(self._set_aside)
        return next((name for name, limit in self.limits.items() if _over(total, name, limit)), None)

    def _left(self) -> dict[str, float]:
        """Return, by limit, the amount that is neither spent nor reserved."""
        total = self.spent.plus(self._set_aside)
        return {name: limit - getattr(total, name) for name, limit in self.limits.items()}

    def refusal(self, name: str) -> BudgetExceeded:
        """Return, and do not raise, the error for a call that `name`, one of the limits that this budget has, does not
        allow; it has the name as `limit`."""
        error = BudgetExceeded(f"the budget of {self.limits[name]:g} {name.replace('_', ' ')} is spent")
        error.limit = name
        return error

    def _begin(self, most: Spent) -> None:
        """Reserve the most of a call or lease that begins; called with the lock held."""
        self._in_flight += 1
        self._set_aside = self._set_aside.plus(most)

    def _end(self, most: Spent, spent: Spent, largest: Spent) -> None:
        """Count what a call or lease in flight has spent in place of what it reserved, both at once, so that no other thread
        finds neither; then wake those who wait. `largest` has the most that one call took of each amount.
        """
        with self._lock:
            self._in_flight -= 1
            # Made anew when nothing is in flight, so that sums of fractions of a cent leave no rest.
            self._set_aside = self._set_aside.since(most) if self._in_flight else Spent()
            self._spent = self._spent.plus(spent)
            self.largest = self.largest.most(largest)
            waiting, self._waiting = self._waiting, []
        for freed in waiting:
            # A waiting call may be of another thread's loop: a tool that calls a program of its own.
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
                freed.get_loop().call_soon_threadsafe(end_wait, freed)

    def _freed(self) -> asyncio.Future[None]:
        """Return a future that is done when a call or a lease in flight has ended; called with the lock held."""
        freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(freed)
        return freed


def _over(total: Spent, name: str, limit: float) -> bool:
    """Return whether an amount exceeds its limit; a limit of time is exceeded as soon as it is reached."""
    value = getattr(total, name)
    return bool(value >= limit if name in TIMES else value > limit)


class _Metered:
    """An LM that sends its requests to another one within a budget."""

    def __init__(self, lm: LM, budget: Budget, declared: Declared | None) -> None:
        self.lm, self.budget, self.declared = lm, budget, declared

    async def complete(self, request: Request) -> Completion:
        return await self.budget.complete(self.lm, request, self.declared)
