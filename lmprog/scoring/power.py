"""The smallest gain that a given number of rows can confirm.

The calculation is for a score of right or wrong, with the test that decides (`statistics.gain_p`). Its power is
summed over all ways in which rows can change: each of n rows changes with probability `changing`, for the better more
often than for the worse, and the test is made on the rows that changed (S. Duffy, "Asymptotic and exact power for the
McNemar test and its analogue with R controls per case", Biometrics 40, 1984). Graded scores mostly vary less, so that
they show smaller gains.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache

from lmprog.scoring.distributions import binomial_above, binomial_pmf
from lmprog.scoring.statistics import mid_p

WANTED = 0.8
"""The power that is asked for: the probability with which a true gain is to be confirmed."""
CHANGING = 0.3
"""The share of rows that are taken to change, for the better or the worse; for a larger gain, the gain itself."""


def power(rows: int, gain: float, level: float, changing: float = CHANGING) -> float:
    """Return the probability that McNemar's mid-p test confirms a true gain with `rows` rows, which are right or wrong.

    `gain` is a share of the rows (0 to 1), `level` the one-sided level of the test, and `changing` (CHANGING is 0.3)
    the share of rows whose score changes at all, for the better or the worse; it counts as `gain` where that is larger.
    """
    share = max(changing, gain)
    better = (1 + gain / share) / 2 if share else 0.5
    return math.fsum(
        binomial_pmf(changed, rows, share) * binomial_above(needed - 1, changed, better)
        for changed, needed in enumerate(_needed(rows, level))
    )


def least_gain(rows: int, level: float, changing: float = CHANGING) -> float | None:
    """Return the smallest gain (0 to 1, in steps of 0.01) that `rows` rows confirm with probability WANTED (0.8); None
    where none is.

    `level` is the one-sided level of the test, `changing` the share of rows whose score changes at all.
    """
    points = bisect_left(range(101), WANTED, key=lambda points: power(rows, points / 100, level, changing))
    return points / 100 if points <= 100 else None


@lru_cache
def _needed(rows: int, level: float) -> list[int]:
    """Return a list that has, for each number of changed rows from 0 to `rows`, how many of them must be better for the test
    to pass; one more than there are where it cannot pass."""
    found = [1]
    for changed in range(1, rows + 1):
        # One more changed row needs as many better ones, or one more.
        found.append(
            next(better for better in (found[-1], found[-1] + 1) if mid_p(better, changed) <= level or better > changed)
        )
    return found
