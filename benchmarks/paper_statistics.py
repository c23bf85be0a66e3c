"""Intervals over seeds and rows at once, for differences of programs that were scored on the same rows with several seeds.

The differences are a table of seeds by rows, and both are draws: other seeds would give other programs, and other rows
another test. With the mean squares MS of a two-way analysis of variance the variance of the grand mean is taken for
(MS_seeds + MS_rows) / (seeds * rows), with the degrees of freedom of Satterthwaite. The unbiased estimate takes the mean
square of what is left away from that sum, and with three seeds is too small too often. On made-up draws with three seeds
these intervals hold the truth in 93% to 98% of all cases. With one seed only the rows are draws, and the interval says nothing
about other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy.stats import t


@dataclass(frozen=True)
class Interval:
    """A mean with the variance of it and the degrees of freedom of that."""

    mean: float
    variance: float
    freedom: float

    @property
    def ci95(self) -> tuple[float, float]:
        half = float(t.ppf(0.975, self.freedom)) * math.sqrt(self.variance) if self.variance else 0.0
        return self.mean - half, self.mean + half

    def times(self, factor: float) -> Interval:
        return Interval(self.mean * factor, self.variance * factor**2, self.freedom)

    def __str__(self) -> str:
        low, high = self.ci95
        return f"{100 * self.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def over_seeds_and_rows(table: Sequence[Sequence[float]]) -> Interval:
    """The grand mean of a table of (seeds, rows). Raises ValueError for fewer than two rows."""
    values = numpy.asarray(table, dtype=float)
    seeds, rows = values.shape
    if rows < 2:
        raise ValueError("one row has no interval")
    mean, of_seed, of_row = values.mean(), values.mean(axis=1), values.mean(axis=0)
    between_rows = seeds * float(of_row.var(ddof=1))
    if seeds == 1:
        return Interval(float(mean), between_rows / rows, rows - 1)
    between_seeds = rows * float(of_seed.var(ddof=1))
    both = between_seeds + between_rows
    below = between_seeds**2 / (seeds - 1) + between_rows**2 / (rows - 1)
    return Interval(float(mean), both / values.size, both**2 / below if below else rows - 1)


def mean_of(found: Sequence[Interval]) -> Interval:
    """The mean over tasks, which are no draws: they are the tasks that there are."""
    variances = [each.variance / len(found) ** 2 for each in found]
    below = sum(variance**2 / each.freedom for variance, each in zip(variances, found, strict=True))
    freedom = sum(variances) ** 2 / below if below else min(each.freedom for each in found)
    return Interval(sum(each.mean for each in found) / len(found), sum(variances), freedom)
