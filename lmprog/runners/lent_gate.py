"""The limits of LMs in a worker that shares them with others: calls wait for the part that the ledger lends (`ledger.py`)."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lmprog.aio.loops import end_wait
from lmprog.compiler.lm_plan import Limits
from lmprog.compiler.plan import LM as Declared
from lmprog.compiler.same_lm import answers_of
from lmprog.lms.api import ApiLM
from lmprog.lms.api.limits import Gate
from lmprog.lms.lm import LM
from lmprog.runners.ledger import LEASE, Need, Part

LATE = 0.05
"""Seconds by which several starts may be late together; of those that are later, all but one are forfeited."""


@dataclass(eq=False, slots=True)
class _Call:
    """A call that waits, with its estimated tokens."""

    future: asyncio.Future[None]
    tokens: int = 0


class LentGate(Gate):
    """A gate that delays the calls of one LM in this worker so that they keep the part of its limits that the ledger lends
    to the worker.

    `changed` is called where the ledger should hear of a new need soon, perhaps from another thread.
    """

    def __init__(
        self, limits: Limits, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(limits)
        self._changed, self._clock = changed, clock
        self._granted, self._until = 0, 0.0
        self._flying = self._told = 0
        self._waiting = deque[_Call]()
        self._ready = deque[_Call]()
        """The calls that have a place and wait for a start."""
        self._starts = deque[tuple[float, int]]()
        self._more = 0
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, tokens: int) -> None:
        """Wait until a call that is estimated at `tokens` may start; `leave` must follow when it has ended, but not
        where this was cancelled."""
        await self.wait_out_hold()
        if self.limits.concurrency is not None:
            await self._place()
        try:
            await self.wait_out_hold()
            if self._pace.limited:
                await self._start(tokens)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """End a call that `enter` let start; its place goes to the next call, or back to the ledger."""
        if self.limits.concurrency is None:
            return
        with self._lock:
            too_many = self._flying > self._granted
            self._flying -= 1
            self._admit()
        if too_many:
            self._changed()

    def correct(self, more: int) -> None:
        """Count tokens that a call used beyond its estimate (less than 0: it used fewer), for the next report to the ledger."""
        with self._lock:
            self._more += more

    def need(self) -> Need:
        """Return what the LM's calls in this worker need now, for the ledger. Tokens beyond the estimates are reported
        once: their count begins at 0 again.
        """
        with self._lock:
            more, self._more = self._more, 0
            self._told = self._flying + len(self._waiting)
            starts = tuple(call.tokens for call in self._ready)[len(self._starts) :]
            return Need(self.limits, self._flying, len(self._waiting), starts, more)

    def receive(self, part: Part, until: float, shift: float) -> None:
        """Take a part from the ledger, which is good for calls that start before the time `until` on this worker's
        clock, and let the calls start that it has room for.

        `shift` is the difference of this worker's clock from the ledger's, in seconds. To be called in a running event
        loop.
        """
        with self._lock:
            self._granted, self._until = part.calls or 0, until
            self._starts.extend((at + shift, tokens) for at, tokens in part.starts)
            self._admit()
        self.begin_due()

    def begin_due(self) -> None:
        """Let the calls start whose promised time has come, and set a timer for the next one. Starts that no call waits
        for are lost, and of several that are late by more than LATE (0.05) seconds all but one."""
        now, begun = self._clock(), False
        with self._lock:
            while self._starts and self._starts[0][0] <= now:
                at, tokens = self._starts.popleft()
                if self._ready and (not begun or now - at <= LATE):
                    call, begun = self._ready.popleft(), True
                    self._more += call.tokens - tokens
                    _settle(call.future)
                else:  # two starts at once would be more than the rate allows, and some that nobody wants are lost
                    self._more -= tokens
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._starts:
                self._timer = asyncio.get_running_loop().call_later(self._starts[0][0] - now, self.begin_due)

    async def _place(self) -> None:
        with self._lock:
            if not self._waiting and self._has_room():
                self._flying += 1
                return
            call = _Call(asyncio.get_running_loop().create_future())
            self._waiting.append(call)
            new = self._flying + len(self._waiting) > self._told
        if new:
            self._changed()
        try:
            await call.future
        except BaseException:
            with self._lock:
                waits = call in self._waiting
                if waits:
                    self._waiting.remove(call)
            if not waits:
                self.leave()
            raise

    async def _start(self, tokens: int) -> None:
        call = _Call(asyncio.get_running_loop().create_future(), tokens)
        with self._lock:
            self._ready.append(call)
        self._changed()
        try:
            await call.future
        except BaseException:
            with self._lock:
                if call in self._ready:
                    self._ready.remove(call)
                else:
                    self._more -= tokens
            raise

    def _has_room(self) -> bool:
        return self._flying < self._granted and self._clock() < self._until

    def _admit(self) -> None:
        while self._waiting and self._has_room():
            self._flying += 1
            _settle(self._waiting.popleft().future)


class LentGates:
    """The gates of a worker, one for each LM with limits, by names under which all workers know the same LM."""

    def __init__(self, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._changed, self._clock = changed, clock
        self._gates: dict[str, LentGate] = {}
        self._shift = float("inf")

    def limit(self, declared: Declared, lm: LM) -> None:
        """Set the gate of an LM, so that its calls wait for the part of its limits that is lent to this worker; an LM
        without limits, or not behind an API, stays as it is. `declared` is its declaration, by which all workers name
        it equally; LMs with equal declarations share a gate."""
        limits = declared.limits
        if isinstance(lm, ApiLM) and (limits.concurrency or limits.requests_per_minute or limits.tokens_per_minute):
            # Those that answer in its place have limits of their own, and a cache folder whose path differs among nodes.
            alone = replace(declared, fallback=(), balance=())
            said = repr((declared.id, answers_of(alone), limits))
            name = hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest()[:16]
            lm.gate = self._gates.setdefault(name, LentGate(limits, self._changed, self._clock))

    def needs(self) -> dict[str, Need]:
        """Return the present need of each LM with a gate, by its name for all workers; tokens beyond the estimates are
        reported once (`LentGate.need`)."""
        return {name: gate.need() for name, gate in list(self._gates.items())}

    def receive(self, parts: Mapping[str, Part], told: float, sent: float) -> None:
        """Take the parts of the limits, by the names of LMs, that answer the needs which this worker reported at the
        time `told` of its own clock, and are good for LEASE (30) seconds from then; the ledger's clock was at `sent`
        when it answered."""
        # The fastest of all messages shows the difference of the clocks best.
        self._shift = min(self._shift, self._clock() - sent)
        for name, part in parts.items():
            self._gates[name].receive(part, told + LEASE, self._shift)


def _settle(future: asyncio.Future[None]) -> None:
    """Resolve a future, in its own event loop where that is not the running one."""
    loop = future.get_loop()
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if here:
        end_wait(future)
    else:
        loop.call_soon_threadsafe(end_wait, future)
