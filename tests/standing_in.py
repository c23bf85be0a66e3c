"""A module with some of its names replaced, as one other module sees it: all others go on with the real one."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any


def standing_in(module: ModuleType, **replaced: Any) -> SimpleNamespace:
    """Return the names of a module with some replaced: `monkeypatch.setattr(fleet, "time", standing_in(time, monotonic=now))`.

    To replace a name of `time` or `asyncio` itself would change the clock and the event loops of all threads.
    """
    return SimpleNamespace(**{**vars(module), **replaced})
