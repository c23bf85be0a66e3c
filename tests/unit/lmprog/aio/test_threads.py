"""Functions in threads: in which they run, what becomes of those whose caller has gone, and the end of the process."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lmprog.aio.threads import OneThread
from tests.waiting import PATIENCE, wait_until


def thread_now() -> threading.Thread:
    return threading.current_thread()


def test_one_thread_calls_all_functions_and_ends_with_its_object() -> None:
    async def run() -> set[threading.Thread]:
        one = OneThread("one")
        return {await one.call(thread_now), *await asyncio.gather(*(one.call(thread_now) for _ in range(20)))}

    (thread,) = asyncio.run(run())
    assert (thread.name, thread.daemon) == ("one", True)
    gc.collect()
    wait_until(lambda: not thread.is_alive(), "the end of the thread")


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)])
def test_what_a_function_raises_reaches_its_caller_and_the_thread_goes_on(error: BaseException) -> None:
    one = OneThread("one")

    def fail(error: BaseException) -> None:
        raise error

    async def run() -> threading.Thread:
        with pytest.raises(type(error), match=str(error)):
            await one.call(fail, error=error)
        return await one.call(thread_now)

    assert asyncio.run(run()).name == "one"


def test_a_function_whose_caller_left_before_it_began_is_not_called() -> None:
    one, go_on, called = OneThread("one"), threading.Event(), []

    async def run() -> None:
        first = asyncio.create_task(one.call(go_on.wait))
        second = asyncio.create_task(one.call(called.append, **{}))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go_on.set()
        await first
        await one.call(thread_now)

    asyncio.run(run())
    assert called == []


SCRIPT = """
import asyncio, threading
from lmprog.aio.threads import OneThread

async def run():
    try:
        await asyncio.wait_for(OneThread("one").call(threading.Event().wait), 0.01)
    except TimeoutError:
        print("late")

asyncio.run(run())
"""


@pytest.mark.slow
def test_a_function_that_never_ends_keeps_no_process_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=Path(__file__).parents[4],
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "late\n", "")
