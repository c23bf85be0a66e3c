"""Binomial probabilities and quantiles of Student's t, for the intervals and tests of `statistics.py`.

They are written here since the packages that have them are larger than everything else that an evaluation needs. Both
distributions follow from the incomplete beta function, whose continued fraction is evaluated by Lentz's method (W. Press and
others, Numerical Recipes, third edition, section 6.4). The tests compare all of it with scipy's values.
"""

from __future__ import annotations

import math
from statistics import NormalDist

NORMAL = NormalDist()
_SMALLEST = 1e-300
_EXACT = 1e-16
_MAX_TERMS = 100_000
"""Terms of the continued fraction; about the square root of the larger parameter is needed."""


def binomial_pmf(hits: int, trials: int, share: float) -> float:
    """Return the probability of exactly `hits` hits in `trials` trials, each a hit with probability `share` (0 to 1); 0
    where `hits` is below 0 or above `trials`."""
    if not 0 <= hits <= trials:
        return 0.0
    if share in (0.0, 1.0):
        return float(hits == trials * share)
    ways = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    return math.exp(ways + hits * math.log(share) + (trials - hits) * math.log1p(-share))


def binomial_above(hits: int, trials: int, share: float) -> float:
    """Return the probability of more than `hits` hits in `trials` trials, each a hit with probability `share` (0 to 1);
    1 where `hits` is below 0, and 0 from `trials` on."""
    if hits < 0:
        return 1.0
    if hits >= trials:
        return 0.0
    return beta_share(hits + 1, trials - hits, share)


def t_quantile(level: float, freedom: int) -> float:
    """Return the value below which Student's t distribution with `freedom` degrees of freedom has the probability
    `level`.

    `level` is above 0 and below 1/2, so the value is negative.
    """
    low, high = -1.0, 0.0
    while _t_below(low, freedom) > level:
        low *= 2
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        if _t_below(middle, freedom) > level:
            high = middle
        else:
            low = middle


def _t_below(value: float, freedom: int) -> float:
    """Return the probability that t lies below a value that is at most 0."""
    return beta_share(freedom / 2, 0.5, freedom / (freedom + value * value)) / 2


def beta_share(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b), the share from 0 to 1 of the Beta(a, b) distribution
    that is below x; 0 for an x below 0, and 1 for one above 1."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return math.exp(scale) * _fraction(a, b, x) / a
    return 1 - math.exp(scale) * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of I_x(a, b), which converges fast for x below (a + 1) / (a + b + 2)."""
    above, below = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    found = below
    for term in range(1, _MAX_TERMS):
        place = a + 2 * term
        for factor in (
            term * (b - term) * x / ((place - 1) * place),
            -(a + term) * (a + b + term) * x / (place * (place + 1)),
        ):
            below = 1 / _not_zero(1 + factor * below)
            above = _not_zero(1 + factor / above)
            found *= below * above
        if abs(below * above - 1) < _EXACT:
            break
    return found


def _not_zero(value: float) -> float:
    return value if abs(value) > _SMALLEST else _SMALLEST
