"""Aggregation of TRL's metrics, which it measures in each forward pass, to one value of each for a training step."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence


class PassMetrics:
    """The merging of the values that TRL measures in each pass of a step into one value for the step; one is made for
    each step, before its first pass. TRL appends them to lists by metric, `measured`; values that stood there before
    are left alone.
    """

    def __init__(self, measured: MutableMapping[str, list[float]]) -> None:
        self._measured = measured
        self._before = {name: len(values) for name, values in measured.items()}
        self._tokens: list[float] = []

    def end_of_pass(self, tokens: float) -> None:
        """Record that a forward pass has ended, whose values `join` weights by `tokens`: the number of tokens of
        replies in it that count for the loss, of all processes together.
        """
        self._tokens.append(tokens)

    def join(self) -> None:
        """Replace each metric's values of this step in `measured` by one: their mean weighted by tokens (0.0 without
        tokens), or the smallest or largest for names ending in `_min` or `_max`. A metric without a value of every pass
        stays as it is.
        """
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
