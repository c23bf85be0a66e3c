"""Gates of workers that share limits by a ledger, in a time that is only counted: no test waits, none reads a clock."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lmprog.compiler.lm_plan import Limits
from lmprog.lms.lm import Request
from lmprog.runners.ledger import LEASE, Ledger
from lmprog.runners.lent_gate import LentGate, LentGates

HEARTBEAT = 0.5


class CountedTime(asyncio.SelectorEventLoop):
    """An event loop whose time goes on to the next timer as soon as nothing else is to be done."""

    def __init__(self) -> None:
        super().__init__(_NoWait(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _NoWait(selectors.SelectSelector):
    def __init__(self, loop: CountedTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        self._loop.now += timeout or 0.0
        return super().select(0)


class Office:
    """Carries the turns of workers, with delays, as the thread of the driver does; the gates are those of the product."""

    def __init__(
        self, workers: int, limits: Limits, loop: CountedTime, delay: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.loop, self.ledger, self._delay = loop, Ledger(), delay
        self.news = [asyncio.Event() for _ in range(workers)]
        self.gates = [LentGates(event.set, loop.time) for event in self.news]
        for gates, event in zip(self.gates, self.news, strict=True):
            gates._gates["lm"] = LentGate(limits, event.set, loop.time)
        self.turns = [loop.create_task(self._turns(worker)) for worker in range(workers)]

    async def _turns(self, worker: int) -> None:
        parts: Any = {}
        told, gates = 0.0, self.gates[worker]
        while True:
            sent = self.loop.now
            await asyncio.sleep(self._delay())
            gates.receive(parts, told, sent)
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await self.news[worker].wait()
            except TimeoutError:
                pass
            await asyncio.sleep(0.01)
            self.news[worker].clear()
            told, needs = self.loop.now, gates.needs()
            await asyncio.sleep(self._delay())
            parts, soon = self.ledger.turn(worker, needs, self.loop.now)
            for other in soon:
                self.news[other].set()

    def die(self, worker: int) -> None:
        self.turns[worker].cancel()
        for other in self.ledger.gone(worker, self.loop.now):
            self.news[other].set()

    def gate(self, worker: int) -> LentGate:
        return self.gates[worker]._gates["lm"]

    async def call(self, worker: int, seconds: float, starts: list[float]) -> None:
        async with self.gate(worker).slot(Request([], {"max_tokens": 10})):
            starts.append(self.loop.now)
            await asyncio.sleep(seconds)


def run(work: Callable[[CountedTime], Coroutine[Any, Any, Any]]) -> Any:
    loop = CountedTime()
    try:
        return loop.run_until_complete(work(loop))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def most_in(window: float, starts: list[float]) -> int:
    return max(sum(at <= each < at + window for each in starts) for at in starts)


@pytest.mark.parametrize("busy", [1, 3])
def test_a_rate_of_600_a_minute_belongs_to_those_who_call(busy: int) -> None:
    async def work(loop: CountedTime) -> list[float]:
        office, starts = Office(3, Limits(requests_per_minute=600.0), loop), list[float]()
        await asyncio.gather(*(office.call(number % busy, 0.05, starts) for number in range(300)))
        return starts

    starts = run(work)
    assert most_in(10.0, starts) <= 101
    assert max(starts) < 31.0  # a third of the rate would take 90 seconds


@pytest.mark.parametrize("seed", range(5))
def test_a_rate_holds_where_messages_are_late(seed: int) -> None:
    draw = random.Random(seed)

    async def work(loop: CountedTime) -> list[float]:
        late = lambda: 0.01 if draw.random() < 0.8 else draw.uniform(0.0, 3.0)  # noqa: E731
        office, starts = Office(3, Limits(requests_per_minute=600.0), loop, late), list[float]()
        await asyncio.gather(*(office.call(draw.randrange(3), 0.05, starts) for number in range(300)))
        return starts

    assert most_in(10.0, run(work)) <= 100 + 3


def test_places_go_where_the_calls_are() -> None:
    async def work(loop: CountedTime) -> float:
        office, starts = Office(3, Limits(concurrency=6), loop), list[float]()
        await asyncio.gather(*(office.call(0, 1.0, starts) for _ in range(60)))
        return loop.now

    assert run(work) < 11.0  # a share of two places would take 30 seconds


def test_the_places_of_a_dead_worker_are_taken_by_the_others() -> None:
    async def work(loop: CountedTime) -> float:
        office, starts = Office(2, Limits(concurrency=4), loop), list[float]()
        lost = [asyncio.create_task(office.call(0, 1000.0, starts)) for _ in range(4)]
        await asyncio.sleep(1.0)
        others = [asyncio.create_task(office.call(1, 1.0, starts)) for _ in range(8)]
        await asyncio.sleep(5.0)
        assert len(starts) == 4
        office.die(0)
        await asyncio.gather(*others)
        for task in lost:
            task.cancel()
        return loop.now

    assert run(work) == pytest.approx(8.0, abs=0.5)


def test_a_worker_that_hears_nothing_begins_no_call_after_its_lease() -> None:
    async def work(loop: CountedTime) -> int:
        office, starts = Office(1, Limits(concurrency=2), loop), list[float]()
        await office.call(0, 0.1, starts)
        office.turns[0].cancel()
        await office.call(0, 0.1, starts)
        await asyncio.sleep(LEASE)
        late = asyncio.create_task(office.call(0, 0.1, starts))
        await asyncio.sleep(1000.0)
        late.cancel()
        return len(starts)

    assert run(work) == 2


def test_cancelled_calls_leave_nothing_behind() -> None:
    async def work(loop: CountedTime) -> None:
        office, starts = Office(1, Limits(concurrency=2, requests_per_minute=60.0), loop), list[float]()
        tasks = [asyncio.create_task(office.call(0, 100.0, starts)) for _ in range(8)]
        await asyncio.sleep(2.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        need = office.gate(0).need()
        assert (need.flying, need.waiting, need.starts) == (0, 0, ())
        await asyncio.wait_for(office.call(0, 0.1, starts), 10.0)

    run(work)
