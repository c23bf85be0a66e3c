"""Limits of one LM: calls in flight, requests and tokens a minute, and a pause where the provider asks for one."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

from lmprog.aio.per_loop import PerLoop
from lmprog.compiler.plan import Limits
from lmprog.compiler.tokens import CHARACTERS_PER_TOKEN, reply_tokens
from lmprog.lms.lm import Request, Usage

SPREAD = 0.1
"""The share of a pause over which waiting calls are spread after its end, so that not all start at once."""


class Pace:
    """The times at which calls may start so that they keep requests and tokens a minute: evenly spaced, and each after the
    tokens of the calls before it are covered. Times are in seconds of one clock that the caller chooses.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.limited = bool(limits.requests_per_minute or limits.tokens_per_minute)
        self.spacing = 60.0 / limits.requests_per_minute if limits.requests_per_minute else 0.0
        """Seconds from one start to the next, by requests a minute alone."""
        self._next_request = 0.0
        self._tokens_paid = 0.0

    def next(self, now: float) -> float:
        """Return the earliest time, not before the time `now`, at which another call may start; nothing is taken."""
        return max(now, self._next_request, self._tokens_paid)

    def take(self, now: float, tokens: int) -> float:
        """Take the earliest start, not before the time `now`, for a call that is estimated at `tokens`; return its time.
        Later calls start after it.
        """
        start = self.next(now)
        if self._limits.requests_per_minute:
            self._next_request = start + self.spacing
        if self._limits.tokens_per_minute:
            self._tokens_paid = start + tokens * 60.0 / self._limits.tokens_per_minute
        return start

    def correct(self, more: int) -> None:
        """Count tokens that were used beyond the estimates, which makes the next start later (less than 0: fewer were used,
        earlier); nothing without a limit of tokens.
        """
        if self._limits.tokens_per_minute:
            self._tokens_paid += more * 60.0 / self._limits.tokens_per_minute


class Gate:
    """A gate that delays the calls of one LM so that they keep its limits: calls in flight, requests and tokens a minute,
    and pauses.

    Requests are spaced evenly: at n a minute one starts every 60/n seconds. A call's tokens are counted, as estimated, when
    it starts, and corrected when its usage is known; the next call waits until the allowed rate covers the tokens used.
    Calls in flight are counted for each event loop apart.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._flights = PerLoop(lambda: asyncio.Semaphore(limits.concurrency or 1)) if limits.concurrency else None
        self._pace = Pace(limits)
        self._lock = threading.Lock()
        self._held_until = 0.0

    def hold(self, seconds: float) -> None:
        """Start no call for `seconds` from now on, as where a provider has asked to wait; a pause that lasts longer
        already stays.
        """
        self._held_until = max(self._held_until, time.monotonic() + seconds)

    def slot(self, request: Request) -> _Slot:
        """Return a context manager for one try of a call; entering it waits until the limits allow the try."""
        return _Slot(self, request)

    async def enter(self, tokens: int) -> None:
        """Wait until a call that is estimated at `tokens` may start; `leave` must follow when it has ended, but not
        where this was cancelled.
        """
        await self.wait_out_hold()
        if self._flights is not None:
            await self._flights.get().acquire()
        try:
            await self.wait_out_hold()
            if self._pace.limited:
                await asyncio.sleep(self._reserve(tokens))
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """End a call that `enter` let start."""
        if self._flights is not None:
            self._flights.get().release()

    def correct(self, more: int) -> None:
        """Count tokens that a call used beyond its estimate (less than 0: it used fewer)."""
        with self._lock:
            self._pace.correct(more)

    async def wait_out_hold(self) -> None:
        """Wait until the pause that a provider asked for is over."""
        # A pause may have become longer while it was slept through.
        while (left := self._held_until - time.monotonic()) > 0:
            await asyncio.sleep(left * random.uniform(1.0, 1.0 + SPREAD))

    def _reserve(self, tokens: int) -> float:
        """Take the next start for a call that is estimated at `tokens`, and return the seconds until it comes."""
        with self._lock:
            now = time.monotonic()
            return self._pace.take(now, tokens) - now


class _Slot:
    def __init__(self, gate: Gate, request: Request) -> None:
        self._gate = gate
        self._tokens = estimate(request) if gate.limits.tokens_per_minute else 0

    async def __aenter__(self) -> _Slot:
        await self._gate.enter(self._tokens)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._gate.leave()

    def took(self, usage: Usage | None) -> None:
        """Correct the estimate of the call's tokens by the tokens that it has used; nothing where these are not known
        (None).
        """
        if usage is not None and self._gate.limits.tokens_per_minute:
            self._gate.correct(usage.prompt_tokens + usage.completion_tokens - self._tokens)


def estimate(request: Request) -> int:
    """Return an estimate of the tokens of a call: those of its texts (by their characters; images and tools count
    nothing), and those of the longest reply that it allows (256 where it sets no limit).
    """
    characters = sum(len(text) for message in request.messages for text in _texts(message.get("content")))
    return int(characters / CHARACTERS_PER_TOKEN) + reply_tokens(request.params)


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part.get("text") or "" for part in content or () if isinstance(part, dict)]
