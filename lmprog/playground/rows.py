"""The rows of a program's data splits, each split read in a thread of its own: the rows of a hub may take minutes, in which
the page is shown without them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmprog.compiler.plan import Plan, Split
from lmprog.compiler.yaml.files import state_of
from lmprog.errors import Handled, LmprogError
from lmprog.scoring.data import rows_of

PATIENCE = 2.0
"""Seconds that a page waits for rows before it is shown without."""

Rows = Sequence[Mapping[str, Any]]


class StillReading(Handled):
    """The error for rows that are asked for while they are still being read."""


@dataclass
class _Reading:
    """The reading of a split as it was declared, with the state of its file then (None: it has no file): once `done` is set,
    its rows, or the error."""

    declared: Split
    state: object
    done: threading.Event = field(default_factory=threading.Event)
    rows: Rows = ()
    error: LmprogError | None = None


class RowsReader:
    """Reads each data split once, in a thread, and again when its declaration or its file has changed.

    `arrived` is called without arguments, in the thread, when a reading that took longer than PATIENCE (2 seconds) has
    ended, also by an error.
    """

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._arrived = arrived
        self._lock = threading.Lock()
        self._readings: dict[str, _Reading] = {}

    def rows(self, plan: Plan, split: str) -> Rows:
        """Return the rows of a split of `plan`, after at most PATIENCE (2) seconds. Raises StillReading while they are
        still being read, LmprogError where they cannot be read (until `retry`, or a change of the file), and KeyError
        for a split that `plan` does not have."""
        reading = self._reading(plan, split)
        if not reading.done.wait(PATIENCE):
            raise StillReading(f"the rows of {split} are still being read")
        if reading.error is not None:
            raise reading.error
        return reading.rows

    def retry(self) -> None:
        """Forget the splits that could not be read, so that the next `rows` reads them again. Readings in progress go
        on."""
        with self._lock:
            self._readings = {name: one for name, one in self._readings.items() if one.error is None}

    def _reading(self, plan: Plan, split: str) -> _Reading:
        declared = plan.data[split]
        state = state_of(declared.path) if declared.path is not None else None
        with self._lock:
            kept = self._readings.get(split)
            if kept is not None and (kept.declared, kept.state) == (declared, state):
                return kept
            reading = self._readings[split] = _Reading(declared, state)
        threading.Thread(target=self._read, args=(plan, split, reading), daemon=True, name="lmprog-dev-rows").start()
        return reading

    def _read(self, plan: Plan, split: str, reading: _Reading) -> None:
        began = time.monotonic()
        try:
            reading.rows = rows_of(plan, split)
        except LmprogError as error:
            reading.error = error
        except Exception as error:  # of the library that reads a hub
            reading.error = LmprogError(f"the rows of {split} cannot be read: {type(error).__name__}: {error}")
        reading.done.set()
        if time.monotonic() - began > PATIENCE:
            self._arrived()
