"""Files that are watched for changes, by asking for their state: it works on every file system and needs no package."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lmprog.state.unchanged import state_of

EVERY = 0.2
"""Seconds between two looks at the files."""


def changes(
    files: Callable[[], Iterable[Path]], stopped: threading.Event, every: float = EVERY
) -> Iterator[frozenset[Path]]:
    """Yield the files that have changed, appeared or gone, each time they have been still for one look; end when stopped.

    `files` is asked before each look, so that the files may be others after a change. A change while the caller is at work on
    the last one is seen next.
    """
    before = {path: state_of(path) for path in files()}
    changed: set[Path] = set()
    while not stopped.wait(every):
        now = {path: state_of(path) for path in files()}
        moved = {path for path, state in now.items() if path in before and before[path] != state}
        before = {**before, **now}
        changed |= moved
        if changed and not moved:
            yield frozenset(changed)
            changed = set()
