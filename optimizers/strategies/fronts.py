"""The choice of the candidates that a population keeps, by their scores on each row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from lmprog.optimizers.evaluation import Values


class Front(Protocol):
    """The interface of a choice among candidates that were scored on the same rows: which of them are kept."""

    def kept(self, scores: Sequence[Values], most: int) -> list[int]:
        """Return the indices of the candidates to keep, at most `most`, that with the best mean first; at least one if there
        is any and `most` is not 0.

        `scores` has the scores by row of each candidate.
        """
        ...


class Pareto:
    """The choice of the Pareto front: of the candidates that no other equals or beats on every row and beats on one.

    The candidate with the best mean is kept first, and then, one by one up to `most`, the candidate that most raises the sum
    over rows of the best score among those kept; of equal ones the one with the better mean, then the earlier one. Rows that
    some candidate was not scored on do not count.
    """

    def kept(self, scores: Sequence[Values], most: int) -> list[int]:
        rows = [row for row in scores[0] if all(row in values for values in scores)] if scores else []
        vectors = [[values[row] for row in rows] for values in scores]
        unbeaten = [place for place, own in enumerate(vectors) if not any(_beats(other, own) for other in vectors)]
        total = [math.fsum(own) for own in vectors]
        chosen = sorted(unbeaten, key=lambda place: (-total[place], place))[: min(1, most)]
        while chosen and len(chosen) < min(most, len(unbeaten)):
            reached = [max(values) for values in zip(*(vectors[place] for place in chosen), strict=True)]
            added = {place: _added(vectors[place], reached) for place in unbeaten if place not in chosen}
            chosen.append(max(added, key=lambda place: (added[place], total[place], -place)))
        return chosen


def _added(own: Sequence[float], reached: Sequence[float]) -> float:
    return math.fsum(max(0.0, value - best) for value, best in zip(own, reached, strict=True))


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(own >= theirs for own, theirs in pairs) and any(own > theirs for own, theirs in pairs)
