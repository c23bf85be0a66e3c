"""Open connections of a program: each opened at first use by a task of its own, kept, and closed with its event loop.

A task of its own, since what is opened within a task must be closed within it, and the first caller may be cancelled or
have ended long before. When the loop is closed its tasks are cancelled, so that nothing outlives it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from lmprog.aio.per_loop import PerLoop

T = TypeVar("T")
Opening = Callable[[], AbstractAsyncContextManager[Any]]

_at_work: set[asyncio.Task[None]] = set()
"""The tasks of open connections: an event loop refers to its tasks weakly, so that one that nobody waits for would be
collected, and close nothing.
"""


class Connections:
    """The open connections of one program's tools, by event loop and by a key (server and settings) that equal tools share."""

    def __init__(self) -> None:
        # Strong references: the collector clears weak ones before it calls `__del__`.
        self._of_loop: PerLoop[dict[Hashable, _Kept]] = PerLoop(dict)

    async def get(self, key: Hashable, opening: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the open connection for `key` in the running event loop, opened by `opening` if there is none, or the
        last has failed or was closed; callers at the same time share one opening. Raises the errors of opening.
        """
        here = self._of_loop.get()
        kept = here.get(key)
        if kept is None or kept.ended:
            kept = here[key] = _Kept(opening)
        # Shielded: a caller who is cancelled leaves the opening to those who wait beside it.
        found: T = await asyncio.shield(kept.opened)
        return found

    async def drop(self, key: Hashable, connection: object) -> None:
        """Close a broken connection of the running event loop, so that the next use opens another; a connection that has
        replaced it stays.
        """
        here = self._of_loop.get()
        kept = here.get(key)
        if kept is not None and kept.holds(connection):
            del here[key]
            await kept.close()

    async def aclose(self) -> None:
        """Close all connections that are open in the running event loop; errors of closing are dropped."""
        here = self._of_loop.get()
        open_here = [*here.values()]
        here.clear()
        await asyncio.gather(*(kept.close() for kept in open_here))

    def __del__(self) -> None:
        """Close the tools' open connections when their loop next runs.

        The program is gone by then, and its loop may live long.
        """
        for here in self._of_loop.all():
            for kept in here.values():
                kept.tell_soon()


class _Kept:
    """An open connection, and the task that opens and closes it, in the event loop in which this is made."""

    def __init__(self, opening: Opening) -> None:
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Any] = self._loop.create_future()
        # Where nobody is left who waits for it, a failure is no news.
        self.opened.add_done_callback(lambda opened: opened.cancelled() or opened.exception())
        self._ending = asyncio.Event()
        self._task = asyncio.create_task(self._keep(opening))
        _at_work.add(self._task)
        self._task.add_done_callback(_at_work.discard)

    @property
    def ended(self) -> bool:
        return self._ending.is_set() or self._task.done() or (self.opened.done() and not self._well)

    def holds(self, connection: object) -> bool:
        return self.opened.done() and self._well and self.opened.result() is connection

    def tell(self) -> None:
        """Have the connection closed by its task, also while it is being opened; to be called in its event loop."""
        self._ending.set()
        if not self.opened.done():
            self._task.cancel()

    def tell_soon(self) -> None:
        """Have the connection closed by its event loop, from any thread; a loop that is closed has closed it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.tell)

    async def close(self) -> None:
        """Have the connection closed, and return when it is; to be called in its event loop. Errors of closing are
        dropped."""
        self.tell()
        await asyncio.wait([self._task])

    @property
    def _well(self) -> bool:
        return not self.opened.cancelled() and self.opened.exception() is None

    async def _keep(self, opening: Opening) -> None:
        try:
            async with opening() as connection:
                self.opened.set_result(connection)
                await self._ending.wait()
        except Exception as error:
            # After it was opened, a failure can only be one of closing what is broken already.
            if not self.opened.done():
                self.opened.set_exception(error)
        finally:
            self.opened.cancel()
