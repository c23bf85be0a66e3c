"""Sums over rows that are the same to the bit for any number of threads."""

from __future__ import annotations

from torch import Tensor

AT_ONCE = 1024
"""Rows that one product sums over: of 2,048 or more oneDNN makes as many sums as suit the number of threads."""


def over_rows(left: Tensor, right: Tensor) -> Tensor:
    """Return the product left' right (a, b) in fp32, of left (N, a) and right (N, b), summed over the N rows.

    It is the same to the bit for any number of threads.
    """
    parts = zip(left.split(AT_ONCE), right.split(AT_ONCE), strict=True)
    return sum((a.t() @ b).float() for a, b in parts)  # type: ignore[return-value]
