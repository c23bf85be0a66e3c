"""The time that each part of a step takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """A stopwatch for the seconds of each part of a training step.

    `start` sets all to 0 and names the part that other time counts for, `with part(name)` counts a block, and `stop`
    returns the seconds by part. Where parts run at the same time, a second counts for the one that began last alone.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._parts: list[str] = []
        self._since = 0.0

    def start(self, part: str) -> None:
        """Set all times to 0 and start; time outside of any other part counts for `part`."""
        self._seconds, self._parts, self._since = {}, [part], time.perf_counter()

    def stop(self) -> dict[str, float]:
        """Stop, and return the seconds of each part since `start`."""
        self._turn()
        self._parts = []
        return self._seconds

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Return a context whose time counts for the part `name`, in place of the part around it."""
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
