"""Successive halving: many candidates on a few rows, the better half of them on twice as many, and so on to all rows.

K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lmprog.optimizers.run_counts import halving


@dataclass(frozen=True)
class Halving:
    """`rows` are all that may be scored on, `first` those of the first rung; `last` candidates at least are scored on all."""

    rows: int
    first: int
    last: int

    def rungs(self) -> list[int]:
        """Return the rows of each rung, each twice as many as the one below it; the last are all rows."""
        return [rows for rows, _ in halving(self.rows, self.first, self.last, 0)]

    def survivors(self, candidates: int) -> Iterator[tuple[int, int]]:
        """Yield (rows, how many candidates go on to them) for each rung above the first."""
        yield from halving(self.rows, self.first, self.last, candidates)[1:]
