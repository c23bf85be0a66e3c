"""Waits of tests: until the condition holds, in as much time as a busy machine may need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds after which what a test waits for counts as never coming. A test that passes seldom needs one of them."""


def wait_until(look: Callable[[], T], what: str = "what the test waits for", *, seconds: float = PATIENCE) -> T:
    """Return the first result of `look` that is true; it is called again and again. Raises AssertionError after `seconds`."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"{what} did not come within {seconds:g} seconds"
        time.sleep(0.01)
    return found


async def until_true(look: Callable[[], T], what: str = "what the test waits for", *, seconds: float = PATIENCE) -> T:
    """Return the first result of `look` that is true, as `wait_until` does, while other tasks of the event loop run."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"{what} did not come within {seconds:g} seconds"
        await asyncio.sleep(0.005)
    return found
