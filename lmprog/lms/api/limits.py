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


class Gate:
    """Delays the calls of one LM so that they keep its limits: calls in flight, requests and tokens a minute, and pauses.

    Requests are spaced evenly: at n a minute one starts every 60/n seconds. A call's tokens are counted, as estimated, when
    it starts, and corrected when its usage is known; the next call waits until the allowed rate covers the tokens used.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._flights = PerLoop(lambda: asyncio.Semaphore(limits.concurrency or 1)) if limits.concurrency else None
        self._paced = bool(limits.requests_per_minute or limits.tokens_per_minute)
        self._lock = threading.Lock()
        self._next_request = 0.0
        self._tokens_paid = 0.0
        self._held_until = 0.0

    def hold(self, seconds: float) -> None:
        """Start no call for `seconds` from now on, as where a provider has asked to wait."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)

    def slot(self, request: Request) -> _Slot:
        """Return a context manager for one try of a call; entering it waits until the limits allow the try."""
        return _Slot(self, request)

    async def _enter(self, tokens: int) -> None:
        await self._wait_out_hold()
        if self._flights is not None:
            await self._flights.get().acquire()
        try:
            await self._wait_out_hold()
            if self._paced:
                await asyncio.sleep(self._reserve(tokens))
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        if self._flights is not None:
            self._flights.get().release()

    async def _wait_out_hold(self) -> None:
        # A pause may have become longer while it was slept through.
        while (left := self._held_until - time.monotonic()) > 0:
            await asyncio.sleep(left * random.uniform(1.0, 1.0 + SPREAD))

    def _reserve(self, tokens: int) -> float:
        """Take the next place, and give the seconds until it comes."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next_request, self._tokens_paid)
            if self._limits.requests_per_minute:
                self._next_request = start + 60.0 / self._limits.requests_per_minute
            if self._limits.tokens_per_minute:
                self._tokens_paid = start + tokens * 60.0 / self._limits.tokens_per_minute
            return start - now

    def _correct(self, estimated: int, usage: Usage) -> None:
        if self._limits.tokens_per_minute:
            more = usage.prompt_tokens + usage.completion_tokens - estimated
            with self._lock:
                self._tokens_paid += more * 60.0 / self._limits.tokens_per_minute


class _Slot:
    def __init__(self, gate: Gate, request: Request) -> None:
        self._gate = gate
        self._tokens = estimate(request) if gate._limits.tokens_per_minute else 0

    async def __aenter__(self) -> _Slot:
        await self._gate._enter(self._tokens)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._gate._leave()

    def took(self, usage: Usage | None) -> None:
        """Put the estimate right with what the call has really taken."""
        if usage is not None:
            self._gate._correct(self._tokens, usage)


def estimate(request: Request) -> int:
    """Return an estimate of the tokens of a call: those of its texts, and those of the longest reply that it allows."""
    characters = sum(len(text) for message in request.messages for text in _texts(message.get("content")))
    return int(characters / CHARACTERS_PER_TOKEN) + reply_tokens(request.params)


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part.get("text") or "" for part in content or () if isinstance(part, dict)]
