"""Selection of the runs of a row that are worth learning from. Pure; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

AtLeast = Literal["best"] | float
"""A score; or `best`, that of the row's best run, where it is above the metric's lowest value."""


def best_runs(scores: Sequence[float], at_least: AtLeast, lowest: float) -> list[int]:
    """Return the places of the runs of one row that score `at_least`, the best first.

    Equal ones stay in their order. `lowest` is the metric's lowest value, which with `best` no run is kept for.
    """
    if at_least == "best":
        best = max(scores, default=lowest)
        kept = [place for place, score in enumerate(scores) if score == best > lowest]
    else:
        kept = [place for place, score in enumerate(scores) if score >= at_least]
    return sorted(kept, key=lambda place: -scores[place])
