"""Whether a winner replaces the program that the stage started from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lmprog.optimizers.journal import Journal
from lmprog.statistics import paired

Values = Mapping[str, float]
"""Score by row index, as text: the plain form in which the journal keeps an evaluation."""


class Acceptance(Protocol):
    """Decides on scores of the same rows before and after a change."""

    def accepts(self, before: Values, after: Values) -> bool: ...


class PairedInterval:
    """Accepts a gain whose 95% interval, paired row by row, lies above 0. The comparison is recorded, whatever comes of it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def accepts(self, before: Values, after: Values) -> bool:
        both = [row for row in before if row in after]
        difference = paired([before[row] for row in both], [after[row] for row in both])
        self.journal.record(
            "compared", what="best against start", difference=difference.as_json(), verdict=difference.verdict
        )
        return difference.significant_gain
