"""The time that each part of a step takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Splits the time between `start` and `stop` into parts that add up to it.

    Within a part another may begin, whose seconds are then its own. Of parts that run at the same time, as the scorings of
    several runs, the last to begin is counted.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._parts: list[str] = []
        self._since = 0.0

    def start(self, part: str) -> None:
        """Begin anew; `part` takes what belongs to no other."""
        self._seconds, self._parts, self._since = {}, [part], time.perf_counter()

    def stop(self) -> dict[str, float]:
        """Return the seconds of each part since `start`."""
        self._turn()
        self._parts = []
        return self._seconds

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._turn()
        self._parts.append(name)
        try:
            yield
        finally:
            self._turn()
            # Those of one name may end in another order than they began; after `stop` there is none.
            if name in self._parts:
                self._parts.reverse()
                self._parts.remove(name)
                self._parts.reverse()

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._parts:
            self._seconds[self._parts[-1]] = self._seconds.get(self._parts[-1], 0.0) + now - self._since
        self._since = now
