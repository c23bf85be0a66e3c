"""Resamples of scores: means, ratios and sums with signs at random, always the same for the same scores.

numpy draws them where it is installed. Without it the same draws are made here, some twenty times slower: the stream of its
`default_rng(0)`, a PCG64 (M. O'Neill, HMC-CS-2014-0905, 2014), and its bounded integers by Lemire's method (ACM Transactions on
Modeling and Computer Simulation 29, 2019). So an interval does not depend on what is installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

RESAMPLES = 10_000
"""Resamples that are drawn for an interval or a test."""
_STATE = 35399562948360463058890781895381311971
_STEP = 87136372517582989555478159403783844777
"""State and increment of PCG64 with the seed 0."""
_FACTOR = 0x2360ED051FC65DA44385DF649FCCF645
"""The factor by which PCG64 multiplies its state."""
_BITS_32, _BITS_64, _BITS_128 = 2**32 - 1, 2**64 - 1, 2**128 - 1


def means(values: Sequence[float]) -> list[float]:
    """Return the means of RESAMPLES (10,000) bootstrap resamples of the values (at least one), each of as many values drawn
    with replacement."""
    n = len(values)
    if (numpy := _numpy()) is None:
        draw = integers(n)
        return [math.fsum(values[next(draw)] for _ in range(n)) / n for _ in range(RESAMPLES)]
    array, found = numpy.asarray(values, dtype=float), []
    for chosen in _chosen(numpy, n, n):
        found.extend(array[chosen].mean(axis=1).tolist())
    return found


def ratios(parts: Sequence[float], wholes: Sequence[float]) -> list[float]:
    """Return RESAMPLES (10,000) ratios, each the sum of `parts` over the sum of `wholes` of a bootstrap resample of the
    rows.

    Each row (at least one) has one value in each. A resample whose `wholes` sum to 0 is left out, so that there may be
    fewer.
    """
    n, found = len(wholes), []
    if (numpy := _numpy()) is None:
        draw = integers(n)
        for _ in range(RESAMPLES):
            places = [next(draw) for _ in range(n)]
            below = math.fsum(wholes[place] for place in places)
            if below:
                found.append(math.fsum(parts[place] for place in places) / below)
        return found
    both = numpy.array([parts, wholes], dtype=float)
    for chosen in _chosen(numpy, n, n):
        above, below = both[:, chosen].sum(axis=2)
        found.extend((above[below != 0] / below[below != 0]).tolist())
    return found


def signed_sums(sizes: Sequence[float]) -> list[float]:
    """Return RESAMPLES (10,000) sums of the sizes (at least one), each size with a random sign: the null distribution
    of a sign-flip test."""
    n = len(sizes)
    if (numpy := _numpy()) is None:
        draw = integers(2)
        return [math.fsum(size if next(draw) else -size for size in sizes) for _ in range(RESAMPLES)]
    array, found = numpy.array(sizes), []
    for chosen in _chosen(numpy, 2, n):
        found.extend(((2.0 * chosen - 1.0) @ array).tolist())
    return found


def percentiles(values: Sequence[float], shares: Sequence[float]) -> list[float]:
    """Return the quantiles of the values, in any order, at `shares` (0 to 1), one for each share in their order,
    interpolated linearly. There must be a value at least."""
    ordered, found = sorted(values), []
    for share in shares:
        place = share * (len(ordered) - 1)
        below = min(int(place), len(ordered) - 2) if len(ordered) > 1 else 0
        low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
        found.append(low + (high - low) * (place - below))
    return found


def integers(n: int) -> Iterator[int]:
    """Yield integers from 0 to n - 1 at random, without end: the same that numpy's `default_rng(0).integers(n)` draws, one
    by one. `n` is at least 1."""
    if n == 1:
        while True:
            yield 0
    state, refused = _STATE, (2**32 - n) % n
    while True:
        state = (state * _FACTOR + _STEP) & _BITS_128
        mixed, turn = (state >> 64) ^ (state & _BITS_64), state >> 122
        bits = ((mixed >> turn) | (mixed << (64 - turn))) & _BITS_64
        for half in (bits & _BITS_32, bits >> 32):
            product = half * n
            if product & _BITS_32 >= refused:
                yield product >> 32


def _chosen(numpy: ModuleType, n: int, length: int) -> Iterator[Any]:
    """Yield numpy arrays of random integers from 0 to n - 1, in all RESAMPLES rows of `length` draws, in blocks of rows that
    take about 16 MB."""
    random, rows = numpy.random.default_rng(0), max(1, min(RESAMPLES, 2_000_000 // length))
    for done in range(0, RESAMPLES, rows):
        yield random.integers(0, n, (min(rows, RESAMPLES - done), length))


@lru_cache
def _numpy() -> ModuleType | None:
    try:
        import numpy
    except ImportError:
        return None
    return numpy
