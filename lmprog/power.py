"""How large a gain must be for so many rows to confirm it.

Of a score of right or wrong, by the test that decides (`statistics.gain_p`). Its power is summed over all ways in which rows
can change: each of n rows changes with probability `changing`, for the better more often than for the worse, and the test is
made on those that changed (S. Duffy, "Asymptotic and exact power for the McNemar test and its analogue with R controls per
case", Biometrics 40, 1984). Graded scores mostly vary less, so that they show smaller gains.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from typing import Any

WANTED = 0.8
"""The power that is asked for: the share of true gains of that size that are confirmed."""
CHANGING = 0.3
"""The share of rows that are taken to change, for the better or the worse; where a gain is larger, as many as it."""


def power(rows: int, gain: float, level: float, changing: float = CHANGING) -> float:
    """Return the probability that a true gain (0 to 1) is confirmed at a one-sided level."""
    import numpy
    from scipy.stats import binom

    share = max(changing, gain)
    better = (1 + gain / share) / 2 if share else 0.5
    changed = numpy.arange(rows + 1)
    return float((binom.pmf(changed, rows, share) * binom.sf(_needed(rows, level) - 1, changed, better)).sum())


def least_gain(rows: int, level: float, changing: float = CHANGING) -> float | None:
    """Return the smallest gain, in whole points, that is confirmed with WANTED power; None where no gain is."""
    points = bisect_left(range(101), WANTED, key=lambda points: power(rows, points / 100, level, changing))
    return points / 100 if points <= 100 else None


@lru_cache
def _needed(rows: int, level: float) -> Any:
    """Return for 0 to `rows` changed rows how many must be better for the test to pass; one more than all where none do."""
    import numpy

    from lmprog.statistics import mid_p

    found = numpy.arange(1, rows + 2)
    for changed in range(1, rows + 1):
        enough = numpy.arange(changed // 2 + 1, changed + 1)
        passing = enough[mid_p(enough, changed) <= level]
        found[changed] = passing[0] if len(passing) else changed + 1
    return found
