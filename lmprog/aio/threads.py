"""Blocking functions in daemon threads: a function that never ends keeps neither its caller nor the process from ending."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

from lmprog.aio.per_loop import PerLoop

T = TypeVar("T")

_awaited: PerLoop[set[asyncio.Future[Any]]] = PerLoop(set)
_awaited_whole: PerLoop[set[object]] = PerLoop(set)


async def in_thread(function: Callable[..., T], /, **arguments: Any) -> T:
    """Call `function` with `arguments` in a daemon thread of its own, with the caller's context variables; return its result
    or raise its exception.

    A caller who is cancelled goes on at once; a function that has begun by then ends by itself or with the process. (With
    `asyncio.to_thread` the end of the loop and the exit of the process would wait for it.)
    """
    work, done = _work(function, arguments)
    threading.Thread(target=work, daemon=True, name="lmprog-tool").start()
    awaited = _awaited.get()
    awaited.add(done)
    try:
        return await done
    finally:
        awaited.discard(done)


class OneThread:
    """A daemon thread that calls functions one after another, in the order of the calls; it begins with the first, and ends
    when this object is gone and the functions before are done.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._begun = threading.Lock()  # taken once, by the first call

    async def call(self, function: Callable[..., T], /, **arguments: Any) -> T:
        """Call `function` with `arguments` in the thread, with the caller's context variables; return its result or raise its
        exception.

        A caller who is cancelled goes on at once. A function that has not begun by then is not called.
        """
        work, done = _work(function, arguments)
        if self._begun.acquire(blocking=False):
            threading.Thread(target=_work_off, args=(self._queue,), daemon=True, name=self._name).start()
            weakref.finalize(self, self._queue.put, None)
        self._queue.put(work)
        return await done


def _work_off(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (work := queue.get()) is not None:
        work()
        del work  # and with it the arguments, while the next is waited for


def _work(function: Callable[..., T], arguments: dict[str, Any]) -> tuple[Callable[[], None], asyncio.Future[T]]:
    """Return a function that calls `function` with `arguments`, to be run in another thread, and the future of its outcome
    on the running event loop. A future that is cancelled before the function has begun keeps it from being called.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def work() -> None:
        if done.cancelled():
            return
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = context.run(function, **arguments)
        except StopIteration as error:  # which a future cannot hold
            failure = RuntimeError(f"StopIteration: {error}")
        except BaseException as error:
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    return work, done


@contextmanager
def awaited_whole() -> Iterator[None]:
    """Return a context that marks that the running event loop awaits, inside the block, work after which further LM
    calls may follow, however long it takes.

    A local model waits for such work before it starts a batch of requests, so that the batch does not depend on
    timing. Blocks may overlap. Raises RuntimeError where no event loop runs.
    """
    marks, mark = _awaited_whole.get(), object()
    marks.add(mark)
    try:
        yield
    finally:
        marks.discard(mark)


def at_work(*, tools: bool) -> bool:
    """Return whether the running event loop awaits work marked by `awaited_whole` (such as a metric or a search) or, with
    `tools`, a call of `in_thread` (not of a OneThread). Raises RuntimeError where no event loop runs.
    """
    return bool(_awaited_whole.get()) or (tools and bool(_awaited.get()))
