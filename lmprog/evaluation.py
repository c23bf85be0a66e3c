"""Scores of a program over rows, with intervals; failures of providers, tools and metrics are counted apart from low scores."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lmprog.errors import LmprogError, ProviderError, UsageError
from lmprog.invocation import Record
from lmprog.loops import run_async
from lmprog.metrics import MetricFailed, Score, Scorer
from lmprog.program import Program, Result, RunOptions
from lmprog.statistics import Difference, Estimate, estimate, paired
from lmprog.usage import Usage, usage_of


@dataclass(frozen=True)
class RowScore:
    """One run of one row. `value` is None where the run had an error that says nothing about the program."""

    row: int
    repeat: int
    value: float | None
    result: Result
    feedback: str | None = None
    cause: str | None = None
    """Why there is no value."""
    kind: str | None = None
    """Of the failure that is why: the run's, `provider` where a judge had no answer, or `metric` where the metric failed."""
    judged: Sequence[Record] = ()
    """The calls of LM judges."""

    @property
    def unreadable(self) -> bool:
        return self.result.error is not None and self.result.error.kind == "unreadable"

    def as_json(self) -> dict[str, Any]:
        """`{"row", "repeat", "score", "feedback", "outputs", "error", "kind"}`; an unreadable run has a score and an error."""
        failure = None if self.result.error is None else str(self.result.error)
        kind = self.kind or (self.result.error.kind if self.result.error is not None else None)
        return {
            "row": self.row,
            "repeat": self.repeat,
            "score": self.value,
            "feedback": self.feedback,
            "outputs": self.result.outputs,
            "error": self.cause or failure,
            "kind": kind,
        }


@dataclass(frozen=True)
class Scores:
    """All runs of an evaluation, in the order of the rows and, within a row, of the repeats."""

    metric: str
    rows: Sequence[RowScore]

    @staticmethod
    def of_values(metric: str, values: Iterable[tuple[int, float | None]]) -> Scores:
        """Scores again from what was kept of them, by the index of the row; what the runs said is not kept."""
        return Scores(metric, [RowScore(row, 0, value, Result(None, ())) for row, value in values])

    @cached_property
    def by_row(self) -> dict[int, float]:
        """The mean over a row's repeats, for each row that was scored: the unit of all statistics."""
        values: dict[int, list[float]] = {}
        for row in self.rows:
            if row.value is not None:
                values.setdefault(row.row, []).append(row.value)
        return {row: math.fsum(found) / len(found) for row, found in values.items()}

    @cached_property
    def estimate(self) -> Estimate:
        """Raises ProviderError where a provider is why no row at all could be scored, else LmprogError."""
        if not self.rows:
            raise UsageError("there are no rows to score")
        if not self.by_row:
            failed = ProviderError if any(row.kind == "provider" for row in self.errors) else LmprogError
            raise failed(f"no row could be scored: {self.errors[0].cause}")
        return estimate(list(self.by_row.values()))

    @property
    def mean(self) -> float:
        return self.estimate.mean

    @property
    def ci95(self) -> tuple[float, float]:
        return self.estimate.ci95

    @property
    def errors(self) -> list[RowScore]:
        """Runs that were not scored."""
        return [row for row in self.rows if row.value is None]

    @property
    def unreadable(self) -> int:
        """Runs whose reply could not be read; they are scored, with the metric's lowest value."""
        return sum(row.unreadable for row in self.rows)

    @property
    def causes(self) -> dict[str, tuple[int, str]]:
        """For each kind of failure of the runs that were not scored: how many, and why the first."""
        found: dict[str, tuple[int, str]] = {}
        for row in self.errors:
            count, first = found.get(row.kind or "", (0, row.cause or ""))
            found[row.kind or ""] = count + 1, first
        return found

    @property
    def usage(self) -> Usage:
        """What the program's runs took."""
        return usage_of(row.result.records for row in self.rows)

    @property
    def judges(self) -> Usage:
        """What the LM judges of the metric took."""
        return usage_of(row.judged for row in self.rows)

    def against(self, other: Scores) -> Difference:
        """How much better these scores are than `other`, over the rows that both could score."""
        mine, theirs = self.by_row, other.by_row
        both = [row for row in mine if row in theirs]
        if not both:
            raise ProviderError("no row was scored in both programs, so they cannot be compared")
        return paired([theirs[row] for row in both], [mine[row] for row in both])


async def score_rows(
    program: Program,
    rows: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    repeats: int = 1,
    options: RunOptions | None = None,
    concurrency: int | None = None,
    on_row: Callable[[RowScore], None] | None = None,
) -> AsyncIterator[RowScore]:
    """Run and score rows, each `repeats` times with seeds of their own; in the order of the rows.

    Rows are scored while others run, and as many at a time as run, since a judge may take as long as the program.
    """
    scorer = Scorer(program, metric)
    window = concurrency or program.concurrency
    for repeat in range(repeats):
        chosen = replace(options or RunOptions(), rollout=repeat)
        scoring: deque[asyncio.Task[RowScore]] = deque()
        stream = program.stream(rows, options=chosen, concurrency=concurrency)
        try:
            index = 0
            async for result in stream:
                scoring.append(asyncio.create_task(_scored(scorer, rows[index], result, index, chosen)))
                index += 1
                while scoring and (scoring[0].done() or len(scoring) >= window):
                    yield _told(await scoring.popleft(), on_row)
            while scoring:
                yield _told(await scoring.popleft(), on_row)
        finally:
            await stream.aclose()
            for task in scoring:
                task.cancel()
            await asyncio.gather(*scoring, return_exceptions=True)


def _told(row: RowScore, on_row: Callable[[RowScore], None] | None) -> RowScore:
    if on_row is not None:
        on_row(row)
    return row


async def _scored(scorer: Scorer, row: Mapping[str, Any], result: Result, index: int, options: RunOptions) -> RowScore:
    repeat = options.rollout
    if result.error is not None and result.error.kind != "unreadable":
        return RowScore(index, repeat, None, result, cause=str(result.error), kind=result.error.kind)
    judged: list[Record] = []
    inputs = scorer.program.inputs_of(row)
    try:
        score = await scorer.score(inputs, row, result, example=index, options=options, judged=judged)
    except ProviderError as error:
        cause = f"the judge {scorer.metric.id!r}: {error}"
        return RowScore(index, repeat, None, result, cause=cause, kind="provider", judged=judged)
    except MetricFailed as error:
        return RowScore(index, repeat, None, result, cause=str(error), kind="metric", judged=judged)
    return RowScore(index, repeat, score.value, result, score.feedback, judged=judged)


async def aevaluate(program: Program, rows: Sequence[Mapping[str, Any]], metric: str, **how: Any) -> Scores:
    """`evaluate`, from within a running event loop; the same options."""
    found = [row async for row in score_rows(program, rows, metric, **how)]
    return Scores(metric, sorted(found, key=lambda score: (score.row, score.repeat)))


def evaluate(
    program: Program,
    rows: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    repeats: int = 1,
    options: RunOptions | None = None,
    concurrency: int | None = None,
    on_row: Callable[[RowScore], None] | None = None,
) -> Scores:
    """Score `program` on `rows` by `metric`. Raises UsageError for an unknown metric.

    Runs that could not be scored, since a provider, a tool or the metric failed, are in `errors`, apart from the scores.
    """
    return run_async(
        lambda: aevaluate(
            program, rows, metric, repeats=repeats, options=options, concurrency=concurrency, on_row=on_row
        )
    )


__all__ = ["RowScore", "Score", "Scores", "aevaluate", "evaluate", "score_rows"]
