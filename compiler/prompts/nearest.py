"""Selection of demos for one call, with `demos: {nearest: ...}`: BM25 over the texts of their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

STOPWORDS = "en"
"""English words that are in every text."""


class Nearest:
    """A selection of the `count` demos whose values of the inputs named `inputs` are nearest to those of a call, by BM25.

    A demo with exactly the inputs of the call is left out: where a program is tuned on the rows that its demos were taken
    from, it would give the answer away.
    """

    def __init__(self, demos: Sequence[Mapping[str, Any]], inputs: Sequence[str], count: int) -> None:
        self._inputs, self._count = inputs, count
        self._known = [self._values(demo) for demo in demos]

    def places(self, inputs: Mapping[str, Any]) -> list[int]:
        """Return the indices of the nearest demos, `count` of them where there are so many, the nearest last; of
        equally near ones, such as all that share no word with the call, the earlier counts as nearer."""
        values = self._values(inputs)
        scores = self._scores(values)
        others = [place for place, known in enumerate(self._known) if known != values]
        best = sorted(others, key=lambda place: (-scores[place], place))[: self._count]
        return best[::-1]

    def _values(self, row: Mapping[str, Any]) -> list[Any]:
        return [row.get(name) for name in self._inputs]

    def _scores(self, values: Sequence[Any]) -> Sequence[float]:
        """Return how near each demo is to these inputs, the nearer the higher; 0 for all where no word is shared."""
        nothing = [0.0] * len(self._known)
        if self._scorer is None:
            return nothing
        ids = self._scorer.get_tokens_ids(_words([_text(values)])[0])
        found: Sequence[float] = self._scorer.get_scores_from_ids(ids).tolist() if ids else nothing
        return found

    @cached_property
    def _scorer(self) -> Any:
        """The index, made when it is first asked for; None where no demo has a word."""
        import bm25s

        words = _words([_text(values) for values in self._known])
        if not any(words):
            return None
        scorer = bm25s.BM25()
        scorer.index(words, show_progress=False)
        return scorer


def _words(texts: Sequence[str]) -> list[list[str]]:
    import bm25s

    words: list[list[str]] = bm25s.tokenize(list(texts), stopwords=STOPWORDS, return_ids=False, show_progress=False)
    return words


def _text(values: Sequence[Any]) -> str:
    return "\n".join(str(value) for value in values if value is not None)
