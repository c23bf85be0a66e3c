"""Aggregation of the metrics that TRL measures in each pass of a step: one value of each name for the step."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence


class PassMetrics:
    """Joins what is appended to the lists of `measured`, by name, between now and `join`."""

    def __init__(self, measured: MutableMapping[str, list[float]]) -> None:
        self._measured = measured
        self._before = {name: len(values) for name, values in measured.items()}
        self._tokens: list[float] = []

    def end_of_pass(self, tokens: float) -> None:
        """Record the end of a pass, whose metrics are means over `tokens` tokens."""
        self._tokens.append(tokens)

    def join(self) -> None:
        """Merge the passes' values of each metric into the mean over all tokens; of `_min` and `_max` the extreme."""
        for name, values in self._measured.items():
            of_passes = values[self._before.get(name, 0) :]
            if len(of_passes) == len(self._tokens):
                values[self._before.get(name, 0) :] = [_joining(name)(of_passes, self._tokens)]


def _joining(name: str) -> Callable[[Sequence[float], Sequence[float]], float]:
    if name.endswith("_min"):
        return lambda values, _: min(values)
    if name.endswith("_max"):
        return lambda values, _: max(values)
    return lambda values, tokens: sum(v * n for v, n in zip(values, tokens, strict=True)) / (sum(tokens) or 1.0)
