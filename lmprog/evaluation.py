"""Scores of a program over rows, with intervals; failures of providers and tools are counted apart from low scores."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmprog.errors import LmprogError, ProviderError, UsageError
from lmprog.loops import run_async
from lmprog.metrics import Score, Scorer
from lmprog.program import Program, Result, RunOptions
from lmprog.statistics import Difference, Estimate, estimate, paired


@dataclass(frozen=True)
class RowScore:
    """One run of one row. `value` is None where the run had an error that says nothing about the program."""

    row: int
    repeat: int
    value: float | None
    result: Result
    feedback: str | None = None
    cause: str | None = None
    """Why there is no value, and `kind` of which failure: the run's, or `provider` where a judge had no answer."""
    kind: str | None = None

    @property
    def unreadable(self) -> bool:
        return self.result.error is not None and self.result.error.kind == "unreadable"


@dataclass(frozen=True)
class Scores:
    """All runs of an evaluation, in the order of the rows and, within a row, of the repeats."""

    metric: str
    rows: Sequence[RowScore]

    @property
    def by_row(self) -> dict[int, float]:
        """The mean over a row's repeats, for each row that was scored: the unit of all statistics."""
        values: dict[int, list[float]] = {}
        for row in self.rows:
            if row.value is not None:
                values.setdefault(row.row, []).append(row.value)
        return {row: math.fsum(found) / len(found) for row, found in values.items()}

    @property
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
    """Run and score rows, each `repeats` times with seeds of their own; in the order of the rows."""
    scorer = Scorer(program, metric)
    for repeat in range(repeats):
        chosen = replace(options or RunOptions(), rollout=repeat)
        index = 0
        async for result in program.stream(rows, options=chosen, concurrency=concurrency):
            scored = await _scored(scorer, program, rows[index], result, index, repeat)
            index += 1
            if on_row is not None:
                on_row(scored)
            yield scored


async def _scored(
    scorer: Scorer, program: Program, row: Mapping[str, Any], result: Result, index: int, repeat: int
) -> RowScore:
    if result.error is not None and result.error.kind != "unreadable":
        return RowScore(index, repeat, None, result, cause=str(result.error), kind=result.error.kind)
    try:
        score = await scorer.score(program.inputs_of(row), row, result)
    except ProviderError as error:
        return RowScore(index, repeat, None, result, cause=f"the judge {scorer.metric.id!r}: {error}", kind="provider")
    return RowScore(index, repeat, score.value, result, score.feedback)


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
    """Score `program` on `rows` by `metric`. Raises UsageError for an unknown metric, MetricFailed where it fails."""
    return run_async(
        lambda: aevaluate(
            program, rows, metric, repeats=repeats, options=options, concurrency=concurrency, on_row=on_row
        )
    )


__all__ = ["RowScore", "Score", "Scores", "aevaluate", "evaluate", "score_rows"]
