"""The remark that scores are of few rows: the one rule for evaluations, optimizations and their pages."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

from lmprog.scoring.power import WANTED, least_gain, power

LEVEL = 0.025
"""The one-sided level of a 95% interval."""
GAIN = 0.1
"""The gain that enough rows would show."""
MOST = 2000
"""The number of rows at which the search for enough rows ends; so many are never called few."""


def few(rows: int, ci95: Sequence[float] | None = None, level: float = LEVEL) -> str | None:
    """Return a remark for a report, a sentence that `rows` rows can show only large gains; None where they are enough.

    `ci95` has the lower and upper end of the interval of a measured difference: where it excludes 0, the rows did show it, and
    there is no remark (None: nothing is measured yet). `level` is the one-sided level of the test (0 to 1).
    """
    if rows >= enough(level) or (ci95 is not None and not ci95[0] <= 0 <= ci95[1]):
        return None
    least = least_gain(rows, level)
    shown = f"a gain below {100 * least:.0f} points would hardly show" if least is not None else "no gain would show"
    larger = f"{enough(level)} rows would show one of {100 * GAIN:.0f} points"
    return f"{_rows(rows)} few: {shown} (with {WANTED:.0%} power); {larger}"


@lru_cache
def enough(level: float = LEVEL) -> int:
    """Return the smallest number of rows that show a gain of GAIN (0.1), 10 points of 100, with the probability WANTED
    (0.8), at a one-sided level (0 to 1); MOST (2000) where fewer do not."""
    return bisect_left(range(MOST), WANTED, lo=1, key=lambda rows: power(rows, GAIN, level))


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count} rows are"
