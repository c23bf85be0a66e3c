"""Counts of the runs that went on after a failed step, because its `on_error` answered in its place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from lmprog.runtime.result import Result

_TURN = re.compile(r"\[\d+\]")


@dataclass(frozen=True)
class RecoveredRuns:
    """The number of runs (`count`) in which a step failed and was answered by its `on_error`: the step's path without
    the turns of loops (`step`), the `kind` of failure (`lmprog.blame`), and the message of the `first`."""

    step: str
    kind: str
    count: int
    first: str

    def __str__(self) -> str:
        return f"{self.without_reason}: {self.first}"

    @property
    def without_reason(self) -> str:
        """The sentence without the message of the first failure, which may hold private values."""
        runs = "1 run" if self.count == 1 else f"{self.count} runs"
        return f"{runs}: step `{self.step}` failed ({self.kind}) and was answered by its `on_error`"

    def as_json(self) -> dict[str, Any]:
        """Return the counts as a dictionary: `step`, `kind`, `count` and `first`."""
        return asdict(self)


class RecoveredCounts:
    """Counts the runs in which steps failed and were answered by their `on_error`, in the memory of one entry a step and kind
    of failure."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, place: str, result: Result) -> None:
        """Count a run, once for each step and kind of failure; `place` stands before its message, as `row 3: `."""
        of_run = {(_TURN.sub("", each.step), each.failure.kind): each for each in reversed(result.recovered)}
        for key, each in of_run.items():
            count, first = self._found.get(key, (0, f"{place}{each.failure}"))
            self._found[key] = count + 1, first

    def runs(self) -> list[RecoveredRuns]:
        """Return the counts so far, in the order of the steps' paths, then of the kinds."""
        return [RecoveredRuns(*key, *self._found[key]) for key in sorted(self._found)]


def recovered_runs(results: Iterable[tuple[str, Result]]) -> list[RecoveredRuns]:
    """Return the runs whose steps failed and were answered by `on_error`, counted by step and kind of failure. `results` has
    each result with the words to stand before its message, as `row 3: `."""
    counts = RecoveredCounts()
    for place, result in results:
        counts.add(place, result)
    return counts.runs()
