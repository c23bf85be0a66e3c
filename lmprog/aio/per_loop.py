"""Values that belong to one event loop: locks, semaphores and connections cannot be shared between two."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """A value for each event loop, made by `make` at its first use there and dropped, not closed, some time after the loop
    is closed."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._kept: dict[asyncio.AbstractEventLoop, T] = {}

    def get(self) -> T:
        """Return the value of the running event loop; it is made now where this is the first use in that loop.

        Raises RuntimeError where no event loop runs.
        """
        loop = asyncio.get_running_loop()
        found = self._kept.get(loop)
        if found is None:
            for other in list(self._kept):
                if other.is_closed():
                    self._kept.pop(other, None)
            found = self._kept[loop] = self._make()
        return found

    def all(self) -> list[T]:
        """Return the values of all event loops, of closed ones too."""
        return list(self._kept.values())
