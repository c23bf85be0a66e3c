"""Scoring by comparison: the runs of one row wait for each other where the reward compares them. Imports no torch."""

from __future__ import annotations

import asyncio

from lmprog.runtime.result import Result
from lmprog.scoring.metrics import Scorer


class Peers:
    """The results of the runs of each row so far, for metrics that compare the runs of a row. All `count` runs of a row must
    be started at the same time, since each waits for the others.
    """

    def __init__(self, scorer: Scorer, count: int) -> None:
        self._scorer, self._count = scorer, count
        self._ended: dict[int, dict[int, Result]] = {}
        self._all: dict[int, asyncio.Event] = {}

    async def scorer(self, example: int, number: int, result: Result) -> Scorer:
        """Return the scorer for run number `number` of a row, which has ended with `result`; `example` is the row's number.

        Where the metric compares runs, wait until all runs of the row have ended; the scorer then compares with those that
        have outputs. For a run without outputs, and for other metrics, the scorer is the plain one, at once.
        """
        if not self._scorer.compares:
            return self._scorer
        of_row = self._ended.setdefault(example, {})
        of_row[number] = result
        whole = self._all.setdefault(example, asyncio.Event())
        if len(of_row) == self._count:
            whole.set()
        if result.outputs is None:
            return self._scorer
        await whole.wait()
        numbers = [other for other in sorted(of_row) if of_row[other].outputs is not None]
        return self._scorer.among([of_row[other] for other in numbers], numbers.index(number))
