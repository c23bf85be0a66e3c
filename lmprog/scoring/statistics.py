"""Intervals and paired comparisons. Scores are fractions of the metric's own scale; intervals are of 95%.

Where all scores are 0 or 1 the intervals are those of score tests: Wilson's (1927) for a share and Tango's (Statistics
in Medicine 17, 1998) for a paired difference, which keep their width where every row is right, or no row has changed.
Other scores get the bootstrap's percentiles, taken further out for few rows (Hesterberg, The American Statistician 69,
2015, section 5.3); BCa would have no value where rows are equal, and changes little for means. Equal scores show no
spread: the interval of their mean allows for the share of other rows that may not have been seen, and that of equal
differences, or of a ratio of one row, has no width. Every resampling has a fixed seed: the same scores give the same
interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmprog.scoring import resampling
from lmprog.scoring.distributions import NORMAL, binomial_above, binomial_pmf, t_quantile
from lmprog.scoring.resampling import RESAMPLES

ROUNDING = 1e-9
"""Scores that differ by less are equal but for rounding."""
_Z = NORMAL.inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """A mean over n rows and the lower and upper end of its 95% interval (`ci95`)."""

    mean: float
    ci95: tuple[float, float]
    n: int

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary of `mean` and `ci95` (a list of two numbers); the number of rows is not in it."""
        return {"mean": self.mean, "ci95": list(self.ci95)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Estimate:
        """Return the estimate saved as `as_json` made it; its n is 0, since the number of rows is not saved. Raises
        KeyError where `mean` or `ci95` is missing."""
        low, high = values["ci95"]
        return Estimate(values["mean"], (low, high), 0)

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f}% [{100 * self.ci95[0]:.1f}, {100 * self.ci95[1]:.1f}]"


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of paired differences (after minus before), its 95% interval, and the two-sided p value of no difference
    (`p`, 0 to 1).

    `better` and `worse` are the numbers of rows that became better and worse; the rest of the n rows are equal.
    """

    p: float
    better: int = 0
    worse: int = 0
    """The number of rows that became worse; those that became neither better nor worse are equal."""

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary of `mean`, `ci95` (a list of two numbers) and `p`; the numbers of rows are not in it."""
        return {**super().as_json(), "p": self.p}

    @property
    def significant_gain(self) -> bool:
        """True where the whole 95% interval lies above 0."""
        return self.ci95[0] > 0

    @property
    def verdict(self) -> str:
        """The words of a report for a change with this difference: `kept` for a significant gain, else `no significant
        change`, also for a loss."""
        return "kept" if self.significant_gain else "no significant change"

    def __str__(self) -> str:
        low, high = self.ci95
        return f"{100 * self.mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], p = {self.p:.2g}"


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of `values` (one score a row) with its 95% interval: Wilson's where all are 0 or 1, else the
    bootstrap's; of equal values, or one, it has a width too. Raises ValueError for no values."""
    if not values:
        raise ValueError("no row was scored")
    center = math.fsum(values) / len(values)
    if set(values) <= {0.0, 1.0}:
        return Estimate(center, _around(center, *_wilson(center, len(values))), len(values))
    if max(values) - min(values) < ROUNDING:
        return Estimate(center, _of_equal(center, len(values)), len(values))
    return Estimate(center, _around(center, *_bootstrap(values)), len(values))


def paired(before: Sequence[float], after: Sequence[float]) -> Difference:
    """Return how scores changed from `before` to `after`, lists of one score a row in the same order; positive means better
    after.

    p is by McNemar's exact test where all scores are 0 or 1, else by the sign-flip permutation test. Raises ValueError
    where the lists differ in length, or are empty.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"a paired comparison needs the same rows on both sides, not {len(before)} and {len(after)}")
    differences = [b - a for a, b in zip(before, after, strict=True)]
    center = math.fsum(differences) / len(differences)
    better, worse = sum(change > 0 for change in differences), sum(change < 0 for change in differences)
    hits = {*before, *after} <= {0.0, 1.0}
    low, high = _tango(better, worse, len(differences)) if hits else _bootstrap(differences)
    return Difference(center, _around(center, low, high), len(differences), _p_value(differences), better, worse)


def ratio(parts: Sequence[float], wholes: Sequence[float]) -> Estimate | None:
    """Return the sum of `parts` over the sum of `wholes`, with its interval by the bootstrap over rows, whose number is
    `n`.

    Each row has one value in each list. The result is None where the wholes sum to 0; a resample whose wholes sum to 0
    is left out.
    """
    if not math.fsum(wholes):
        return None
    center, n = math.fsum(parts) / math.fsum(wholes), len(wholes)
    if n == 1:
        return Estimate(center, (center, center), n)
    low, high = resampling.percentiles(resampling.ratios(parts, wholes), _levels(n))
    return Estimate(center, _around(center, low, high), n)


def gain_p(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the one-sided p value for `after` being better than `before`, scores of the same rows in the same order.

    It is 1 where no score changed, else the mid-p value of the sign-flip test by RESAMPLES (10,000) draws; where all
    changes are of one size, as of scores of 0 or 1, that is McNemar's mid-p (M. Fagerland, S. Lydersen and P. Laake,
    BMC Medical Research Methodology 13:91, 2013), whose error stays near the level where the exact test, of few rows,
    stays far below it. Raises ValueError where the lists differ in length.
    """
    changed = [b - a for a, b in zip(before, after, strict=True) if abs(b - a) > ROUNDING]
    if not changed:
        return 1.0
    sizes = [abs(change) for change in changed]
    if max(sizes) - min(sizes) <= ROUNDING:
        return mid_p(sum(change > 0 for change in changed), len(changed))
    found, sums = math.fsum(changed), resampling.signed_sums(sizes)
    more = sum(total > found + ROUNDING for total in sums)
    same = 1 + sum(abs(total - found) <= ROUNDING for total in sums)  # the order that was found is one of them
    return (more + same / 2) / (RESAMPLES + 1)


def mid_p(better: int, changed: int) -> float:
    """Return McNemar's one-sided mid-p value: `better` of the `changed` rows became better, the others worse; 0.5 where
    none changed."""
    return binomial_above(better, changed, 0.5) + 0.5 * binomial_pmf(better, changed, 0.5)


def _around(center: float, low: float, high: float) -> tuple[float, float]:
    """Return the interval from `low` to `high`, widened to hold its mean `center`, which rounding may put outside of it."""
    return min(low, center), max(high, center)


def _p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p value of no difference, for the differences of paired scores: McNemar's exact one where each is
    0, 1 or -1, else that of the sign-flip test; 1 where fewer than two are not 0."""
    changed = [difference for difference in differences if difference]
    if len(changed) < 2:
        return 1.0  # the sign of one difference is as likely as the other
    if set(changed) <= {-1.0, 1.0}:
        better = sum(difference > 0 for difference in changed)
        return min(1.0, 2 * binomial_above(max(better, len(changed) - better) - 1, len(changed), 0.5))
    found, sizes = math.fsum(changed), [abs(change) for change in changed]
    if 2 ** len(sizes) <= RESAMPLES:
        sums = [0.0]
        for size in sizes:
            sums = [total + signed for total in sums for signed in (size, -size)]
    else:
        sums = [*resampling.signed_sums(sizes), found]  # the order that was found is one of them
    more = sum(total >= found - ROUNDING for total in sums)
    less = sum(total <= found + ROUNDING for total in sums)
    return min(1.0, 2 * min(more, less) / len(sums))


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's score interval (95%) of a share, where `share` (0 to 1) of n rows are hits."""
    square = _Z * _Z / n
    center = share + square / 2
    half = math.sqrt(square * (share * (1 - share) + square / 4))
    return (center - half) / (1 + square), (center + half) / (1 + square)


def _tango(better: int, worse: int, n: int) -> tuple[float, float]:
    """Return Tango's score interval (95%) of a paired difference of shares, where of n pairs `better` became right and
    `worse` became wrong."""

    def distance(difference: float) -> float:
        """Return the score statistic of a difference (-1 to 1) as z value; it falls from above 1.96 to below -1.96."""
        b = (2 * n - better + worse) * difference - better - worse
        c = -worse * difference * (1 - difference)
        share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        excess = better - worse - n * difference
        if variance > 1e-15:
            return excess / math.sqrt(variance)
        return 0.0 if abs(excess) < 1e-9 else math.copysign(1e9, excess)  # in the limit

    center = (better - worse) / n
    low = -1.0 if center == -1 else _root(lambda value: distance(value) - _Z, -1 + 1e-9, center)
    high = 1.0 if center == 1 else _root(lambda value: distance(value) + _Z, center, 1 - 1e-9)
    return low, high


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Return the value between `low` and `high` at which a falling function is 0, to the last digit, by bisection."""
    while low < (middle := (low + high) / 2) < high:
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return middle


def _of_equal(value: float, n: int) -> tuple[float, float]:
    """Return the 95% interval of a mean of n equal values, for which resampling would give an interval without width.

    With 97.5% on each side, fewer than 1 - 0.025^(1/n) of all rows have another value; these are taken to be 0 or 1, or as far
    away as that for values beyond.
    """
    unseen = 1 - 0.025 ** (1 / n)
    low, high = min(0.0, value), max(1.0, value)
    return value - unseen * (value - low), value + unseen * (high - value)


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """Return the bootstrap's 95% interval of the mean of the values (at least one); of one value it has no width."""
    if len(values) == 1:
        return values[0], values[0]
    low, high = resampling.percentiles(resampling.means(values), _levels(len(values)))
    return low, high


def _levels(n: int) -> tuple[float, float]:
    """Return the two quantiles (0 to 1) of the resamples' means that are the ends of the interval for n values (at least 2):
    2.5% and 97.5%, taken further out for few values as Student's t is wider than the normal distribution."""
    level = NORMAL.cdf(math.sqrt(n / (n - 1)) * t_quantile(0.025, n - 1))
    return level, 1 - level
