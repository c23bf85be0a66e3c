"""Selection of the runs of a row that are worth learning from. Pure; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

AtLeast = Literal["best"] | float
"""A score; or `best`, that of the row's best run, where it is above the metric's lowest value."""


def best_runs(scores: Sequence[float], at_least: AtLeast, lowest: float) -> list[int]:
    """Return the indices of a row's runs (by their `scores`) that score at least `at_least`, the best first, and equal ones
    in the order of `scores`.

    With `best` they are the runs with the row's highest score; none if that is only `lowest`, the metric's lowest value,
    which counts for nothing else.
    """
    if at_least == "best":
        best = max(scores, default=lowest)
        kept = [place for place, score in enumerate(scores) if score == best > lowest]
    else:
        kept = [place for place, score in enumerate(scores) if score >= at_least]
    return sorted(kept, key=lambda place: -scores[place])
