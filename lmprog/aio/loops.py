"""Event loops for synchronous callers: one for each thread, kept open, so that connections outlive a call.

What is opened within a loop (HTTP sessions, tool servers) is kept by a task, which ends with the loop and closes it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def end_wait(future: asyncio.Future[None]) -> None:
    """Resolve a future that somebody waits for, unless it is done or cancelled already; to be called in the future's own
    loop.
    """
    if not future.done():
        future.set_result(None)


def being_cancelled() -> bool:
    """Return whether the running task is cancelled from outside, True where no task runs; False where a CancelledError comes
    from the code that it runs, such as a tool that awaits a task which it has cancelled itself."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def run_async(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine that `make` returns to its end, from synchronous code; return its result or raise its error.

    Ctrl-C cancels it, and is raised when it has ended. Where a loop already runs in this thread (a notebook), it runs in a
    thread and a loop of its own, for whose end this thread waits. Context variables that the caller has set need not be
    seen in it.
    """
    if asyncio._get_running_loop() is not None:
        return _in_thread(make)
    return _kept().runner.run(make())


def run_briefly(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine that `make` returns, as `run_async` does, for one short call among many.

    Ctrl-C is not handled, which would cost more than the call: it raises KeyboardInterrupt wherever the loop is, and all
    tasks of the loop are cancelled. Where a loop already runs in this thread, it is `run_async`.
    """
    if asyncio._get_running_loop() is not None:
        return _in_thread(make)
    loop = _kept().loop
    task = loop.create_task(make())
    try:
        return loop.run_until_complete(task)
    except (KeyboardInterrupt, SystemExit):
        if task.done() and not task.cancelled():
            task.exception()  # it was raised within the task, and is not to be logged as one that nobody has seen
        _cancel(loop)
        raise


def _cancel(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:  # without any the future would belong to another loop
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


class _Kept:
    """The event loop that one thread keeps for its synchronous calls; it is closed with the thread, or with the process."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.loop = self.runner.get_loop()
        self.process = os.getpid()

    def close(self) -> None:
        # After a fork the loop is the parent's, and so is what it opened.
        if self.process == os.getpid() and not self.loop.is_closed():
            self.runner.close()

    def __del__(self) -> None:
        self.close()


_of_thread = threading.local()


def _kept() -> _Kept:
    kept: _Kept | None = getattr(_of_thread, "kept", None)
    if kept is None or kept.process != os.getpid():
        kept = _of_thread.kept = _Kept()
    return kept


@atexit.register
def _close_of_main_thread() -> None:
    """Close the main thread's loop at exit; other threads have ended by then, and their loops with them."""
    kept = _of_thread.__dict__.pop("kept", None)
    if kept is not None:
        kept.close()


def _in_thread(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine that `make` returns in a thread and a loop of its own, and wait for it; return its result or raise
    its error. At Ctrl-C it is cancelled, and KeyboardInterrupt is raised when it has ended.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    interrupted, ended = threading.Event(), threading.Event()

    async def cancellable() -> T:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        if interrupted.is_set():
            task.cancel()
        return await make()

    def work() -> None:
        try:
            outcome.append(run_async(cancellable))
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, name="lmprog-run")
    thread.start()
    try:
        ended.wait()  # not `join`: interrupted by Ctrl-C, Python 3.11 takes the thread for ended, and joins it no more
    except BaseException:  # Ctrl-C, which only the waiting thread gets: without this the calls would go on and cost
        interrupted.set()
        for loop, task in running:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended meanwhile
                loop.call_soon_threadsafe(task.cancel)
        ended.wait()
        raise
    finally:
        thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
