"""Successive halving: many candidates on a few rows, the better half of them on twice as many, and so on to all rows.

K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lmprog.optimizers.run_counts import halving


@dataclass(frozen=True)
class Halving:
    """A schedule of successive halving: all candidates on `first` rows, the better half on twice as many, up to all `rows`.

    At least `last` candidates (or all, of fewer) are scored on all rows. `first` above `rows` counts as `rows`.
    """

    rows: int
    first: int
    last: int

    def rungs(self) -> list[int]:
        """Return the numbers of rows of all rungs, each twice the one before, but the last, which is all rows."""
        return [rows for rows, _ in halving(self.rows, self.first, self.last, 0)]

    def survivors(self, candidates: int) -> Iterator[tuple[int, int]]:
        """Yield for each rung above the first its number of rows, and how many of the `candidates` (their number on the
        first) are scored on it: half of those before, rounded up, but at least `last` or all of fewer; nothing where
        the first has all rows."""
        yield from halving(self.rows, self.first, self.last, candidates)[1:]
