"""Synchronous calls share one loop a thread: connections outlive a call, and everything is closed with the loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from lmprog.aio import loops
from lmprog.aio.loops import run_async, run_briefly
from tests.waiting import PATIENCE

RUNNERS = pytest.mark.parametrize("run", [run_async, run_briefly])


async def loop_now() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@RUNNERS
def test_calls_of_one_thread_share_a_loop(run) -> None:
    assert run(loop_now) is run(loop_now) is run_async(loop_now)


@RUNNERS
def test_within_a_running_loop_another_thread_is_used(run) -> None:
    async def outer() -> bool:
        return run(loop_now) is asyncio.get_running_loop()

    assert run_async(outer) is False


@RUNNERS
def test_a_failure_is_raised_and_the_loop_goes_on(run) -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(fail)
    assert run(loop_now) is not None


@pytest.mark.parametrize("run", [run_async, run_briefly])
def test_ctrl_c_within_the_work_itself_is_raised_and_leaves_no_log(run, caplog) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupted)
    gc.collect()
    assert caplog.text == "" and run(loop_now) is not None


def test_what_a_task_keeps_open_is_closed_with_the_thread() -> None:
    closed: list[str] = []

    async def keep() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            closed.append("session")

    async def opens() -> asyncio.Task[None]:
        task = asyncio.create_task(keep())
        await asyncio.sleep(0)
        return task

    thread = threading.Thread(target=lambda: run_briefly(opens))
    thread.start()
    thread.join()
    assert closed == ["session"]


SCRIPT = """
import asyncio, sys
from lmprog.aio.loops import {run} as run

async def work():
    try:
        print("at work", flush=True)
        await asyncio.sleep(60)
    finally:
        print("cancelled", flush=True)

try:
    run(work)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run_async", "run_briefly"])
def test_ctrl_c_cancels_what_is_at_work(name: str, tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(run=name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    assert running.stdout is not None and running.stdout.readline() == "at work\n"
    os.kill(running.pid, signal.SIGINT)
    said, errors = running.communicate(timeout=PATIENCE)
    assert (said.split(), errors, running.returncode) == (["cancelled", "interrupted"], "", 0)


def test_a_forked_process_has_a_loop_of_its_own() -> None:
    before = run_briefly(loop_now)
    child = os.fork()
    if child == 0:
        os._exit(int(run_briefly(loop_now) is before))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert run_briefly(loop_now) is before


@RUNNERS
def test_ctrl_c_in_a_notebook_cancels_the_work_and_waits_for_its_end(run, monkeypatch) -> None:
    """Within a running loop the work has a thread of its own, which no signal reaches."""
    begun, ended = threading.Event(), list[bool]()

    class Interrupted(threading.Event):
        """An event whose first `wait` Ctrl-C interrupts. The thread's `join` is no way to wait here: see `_in_thread`."""

        def wait(self, timeout: float | None = None) -> bool:
            if not ended and not getattr(self, "hit", False):
                self.hit = True
                assert begun.wait(PATIENCE)
                raise KeyboardInterrupt
            return super().wait(timeout)

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ended.append(True)

    async def cell() -> None:
        monkeypatch.setattr(loops, "threading", SimpleNamespace(Thread=threading.Thread, Event=Interrupted))
        try:
            run(work)
        except KeyboardInterrupt:
            ended.append(False)

    run_async(cell)
    assert ended == [True, False]
