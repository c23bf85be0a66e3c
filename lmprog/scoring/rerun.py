"""Runs that an outage ended, made again after the others: what still has no score then is an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from lmprog.errors import BudgetExceeded

AGAIN = 2
"""Number of times that a run is repeated, beside the tries of each call of an LM or tool in it."""


class Scored(Protocol):
    """The interface of a scored run: `value`, its score (None where an outage ended it), and `repeatable`, whether it may
    be run again.
    """

    @property
    def value(self) -> float | None: ...
    @property
    def repeatable(self) -> bool: ...


T = TypeVar("T", bound=Scored)
R = TypeVar("R")


async def run_all(work: Sequence[Callable[[], Awaitable[T]]], *, together: int) -> list[T]:
    """Start all runs of `work` at once, each by calling its function; return their results in the order of `work`.

    Those that an outage ended are made again by another call, at most `together` at a time, as `run_again` says. Raises what a
    run raises; the others are then cancelled.
    """
    runs = await all_of([make() for make in work])
    lost = [place for place, run in enumerate(runs) if run.value is None]
    again = await run_again(
        [runs[place] for place in lost],
        lambda place, before: work[lost[place]](),
        together=together,
        others=len(lost) < len(runs),
    )
    for place, run in zip(lost, again, strict=True):
        runs[place] = run
    return runs


async def run_again(
    lost: Sequence[T],
    run: Callable[[int, T], Awaitable[T]],
    *,
    together: int,
    others: bool,
    is_lost: Callable[[T], bool] = lambda run: run.value is None,
) -> list[T]:
    """Repeat each lost run (`is_lost`: one that an outage ended) until it has a score, up to AGAIN (2) times, without
    waits in between; return the last results in the order of `lost`.

    `run` is called with the index of a lost run in `lost` and its last result, and makes it again. At most `together`
    run at a time. `others` says whether any other run was scored: where none was, the first is made again by itself,
    and the rest only if that is scored. A run that is not `repeatable` (it called a tool that writes) is not made
    again. A spent budget ends the repeats without an exception, and runs still lost stay so.
    """
    found = list(lost)
    gate = asyncio.Semaphore(together)

    async def one(place: int) -> None:
        async with gate:
            found[place] = await run(place, found[place])

    for _ in range(AGAIN):
        places = [place for place, each in enumerate(found) if is_lost(each) and each.repeatable]
        try:
            if not others and places:
                await one(places[0])
                if is_lost(found[places.pop(0)]):
                    break
                others = True
            await all_of([one(place) for place in places])
        except BudgetExceeded:
            break
    return found


async def all_of(work: Sequence[Awaitable[R]]) -> list[R]:
    """Return the results of all of `work`, in its order, which is done at the same time; where one raises, the others
    are cancelled, and when they have ended its exception is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
