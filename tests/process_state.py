"""The state of the process that tests share, which each test must leave as it was: others follow it in any order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lmprog.aio.loops import run_async

PATIENCE = 10.0
"""Seconds in which a thread or process that was stopped may come to its end."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
SET_ONCE = {
    b"PYTEST_CURRENT_TEST",
    b"HF_HUB_DISABLE_TELEMETRY",
    b"LITELLM_LOCAL_MODEL_COST_MAP",
    b"MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    b"MLFLOW_HTTP_REQUEST_TIMEOUT",
    b"ONEDNN_PRIMITIVE_CACHE_CAPACITY",
    b"RAY_RUNTIME_ENV_IGNORE_GITIGNORE",
    b"RAY_USAGE_STATS_ENABLED",
    b"TIKTOKEN_CACHE_DIR",
}
"""Variables that may change in a test: pytest's own, and those that lmprog or a library sets once, before an import."""


class Part(NamedTuple):
    """One part of the state: how it is read, and how what was read is put back."""

    read: Callable[[], Any]
    restore: Callable[[Any], object]


def _root() -> Any:
    root = logging.root
    return root.level, root.disabled, root.handlers[:], root.filters[:]


def _restore(logger: logging.Logger, state: Any) -> None:
    logger.setLevel(state[0])
    logger.disabled, logger.handlers[:], logger.filters[:] = state[1:4]


def _loggers() -> dict[str, Any]:
    """Return the loggers of lmprog that are not as `getLogger` makes them, by name."""
    found = {}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith("lmprog") and isinstance(logger, logging.Logger):
            state = (logger.level, logger.disabled, logger.handlers[:], logger.filters[:], logger.propagate)
            if state != (logging.NOTSET, False, [], [], True):
                found[name] = state
    return found


def _restore_loggers(before: dict[str, Any]) -> None:
    for name in {*_loggers(), *before}:
        state = before.get(name, (logging.NOTSET, False, [], [], True))
        _restore(logging.getLogger(name), state)
        logging.getLogger(name).propagate = state[4]


def _environment() -> dict[bytes, bytes]:
    # As bytes: os.environ itself would decode a hundred names and values for each test.
    return {name: value for name, value in os.environ._data.items() if name not in SET_ONCE}  # type: ignore[attr-defined]


def _restore_environment(before: dict[bytes, bytes]) -> None:
    for name in _environment().keys() - before.keys():
        del os.environb[name]
    os.environb.update(before)


def _torch() -> Any:
    torch = sys.modules.get("torch")
    if not hasattr(torch, "get_default_dtype"):
        return None
    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
    )


def _restore_torch(before: Any) -> None:
    import torch

    torch.set_num_threads(before[0])
    torch.set_default_dtype(before[1])
    torch.use_deterministic_algorithms(before[2])
    torch.set_grad_enabled(before[3])


def _stream(name: str) -> Part:
    return Part(lambda: getattr(sys, name), lambda before: setattr(sys, name, before))


def _handler(number: signal.Signals) -> Part:
    return Part(lambda: signal.getsignal(number), lambda before: signal.signal(number, before))


PARTS = {
    "logging.disable": Part(lambda: logging.root.manager.disable, logging.disable),
    "the root logger (level, disabled, handlers, filters)": Part(_root, lambda before: _restore(logging.root, before)),
    "the loggers of lmprog (level, disabled, handlers, filters, propagate)": Part(_loggers, _restore_loggers),
    "the environment": Part(_environment, _restore_environment),
    "the working directory": Part(os.getcwd, os.chdir),
    "sys.stdin": _stream("stdin"),
    "sys.stdout": _stream("stdout"),
    "sys.stderr": _stream("stderr"),
    "sys.path": Part(sys.path.copy, lambda before: sys.path.__setitem__(slice(None), before)),
    "sys.getrecursionlimit()": Part(sys.getrecursionlimit, sys.setrecursionlimit),
    "socket.getdefaulttimeout()": Part(socket.getdefaulttimeout, socket.setdefaulttimeout),
    "tempfile.tempdir": Part(tempfile.gettempdir, lambda before: setattr(tempfile, "tempdir", before)),
    "gc.isenabled()": Part(gc.isenabled, lambda before: gc.enable() if before else gc.disable()),
    "the policy of event loops": Part(asyncio.get_event_loop_policy, asyncio.set_event_loop_policy),
    "the running event loop": Part(asyncio._get_running_loop, asyncio._set_running_loop),
    "torch (threads, default dtype, deterministic algorithms, gradients)": Part(_torch, _restore_torch),
    **{f"the handler of {number.name}": _handler(number) for number in SIGNALS},
}


UNSURE = {"the environment", "sys.path", *(name for name in PARTS if name.startswith("torch"))}
"""Parts that a library may change when a test is the first to import it, which depends on the order of tests."""


class ProcessState:
    """The state of the process at one moment; it takes some 50 microseconds."""

    def __init__(self) -> None:
        self._parts = {name: part.read() for name, part in PARTS.items()}
        self._threads = _threads()
        self._children = _children()

    def changes(self) -> tuple[list[str], list[str]]:
        """Return a line for each part that differs now, and put the part back, so that no other test fails by it.

        The first list has what the test itself changed. The second has what a library may have changed, and threads and
        processes that end later than PATIENCE, as they may on a busy machine.
        """
        found: list[str] = []
        unsure: list[str] = []
        for name, part in PARTS.items():
            before, now = self._parts[name], part.read()
            if before != now and not (before is None and "torch" in name):
                (unsure if name in UNSURE else found).append(f"{name}: {_difference(before, now)}")
                part.restore(before)
        deadline = time.monotonic() + PATIENCE
        if left := _threads() - self._threads:
            gc.collect()  # an executor ends its threads when it is collected, perhaps in a circle with an exception's frames
        for thread in left:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                unsure.append(f"the thread {thread.name}, which is no daemon and runs on")
        deadline = time.monotonic() + PATIENCE
        while (left := _children() - self._children) and time.monotonic() < deadline:
            gc.collect()
            # Programs that are gone end their tool servers on the event loop that is kept for this thread.
            run_async(lambda: asyncio.sleep(0.05))
        unsure += [f"the process {pid}, which is not waited for: {_command(pid)}" for pid in sorted(left)]
        return found, unsure


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict):
        names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        return "; ".join(f"{name!r} was {before.get(name)!r}, is {now.get(name)!r}" for name in names)
    return f"was {before!r}, is {now!r}"


def _threads() -> set[threading.Thread]:
    """Return the threads that keep the process from ending.

    Idle threads of asyncio are left out: they end with the event loop, and `run_async` keeps one for each thread. So are
    those of local models, which are kept for the tests that follow.
    """
    kept = ("asyncio_", "lmprog-local")
    return {thread for thread in threading.enumerate() if not (thread.daemon or thread.name.startswith(kept))}


def _children() -> set[int]:
    """Return the ids of the child processes of this process; those of ended ones for which nobody has waited too."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    found = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in task.read_text().split()}
    return found


def _command(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip() or "ended"
        )
    except OSError:
        return "ended"
