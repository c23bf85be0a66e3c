"""A thread for the trainer, beside which the event loop of the stage goes on: it samples while weights are trained."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from lmprog.errors import Handled

T = TypeVar("T")
SWITCH = 0.0005
"""Seconds after which the trainer lets the event loop run: with Python's own 0.005, each of many replies waits so long."""


class Ended(Handled):
    """The exception that ends the trainer in its thread, when the run ends."""


class Beside:
    """A thread for the trainer's blocking work, beside which the event loop goes on; the work can run coroutines in that
    loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: concurrent.futures.Future[Any] | None = None
        self._ended = False

    @property
    def at_work(self) -> bool:
        """True while the thread is running, so that `run` can be called from it."""
        return self._loop is not None

    async def work(self, work: Callable[[], None]) -> None:
        """Call `work` in a thread, and wait for its end; what it raises is raised here. There is one `work` at a time.

        From the thread, `work` can run coroutines in the event loop by `run` of this object. Where the waiting is
        cancelled, the call of `run` in progress, or the next one, raises Ended in the thread; the end of `work` is
        waited for, however late it comes.
        """
        self._loop = asyncio.get_running_loop()
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        thread = self._loop.run_in_executor(None, work)
        try:
            await asyncio.shield(thread)
        except asyncio.CancelledError:
            self._ended = True
            if self._asked is not None:
                self._asked.cancel()
            with suppress(Exception):
                await thread
            raise
        finally:
            self._loop = None
            sys.setswitchinterval(before)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop, from the thread that `work` has started, and return its result; what the
        coroutine raises is raised here.

        Raises Ended where the waiting in `work` was cancelled, and outside of `work`; the coroutine is then closed, and
        not run.
        """
        if self._ended or self._loop is None:
            coroutine.close()
            raise Ended
        self._asked = asked = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return asked.result()
        except concurrent.futures.CancelledError:
            raise Ended from None
