"""Scores of a program over rows, with intervals: own failures score lowest and are counted by kind, outages are left out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, overload

from lmprog.aio.loops import run_async
from lmprog.blame import is_outage
from lmprog.boundary.notebook import NotebookBar
from lmprog.boundary.tables import as_list
from lmprog.errors import ConnectionFailed, ProviderError, UsageError
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.runtime.result import Result
from lmprog.runtime.writes import refuse_writes
from lmprog.scoring.data import default_metric, rows_of
from lmprog.scoring.metrics import MetricFailed, Score, Scorer, scorers_of
from lmprog.scoring.rerun import run_again
from lmprog.scoring.scores import Outages, RowScore, Scores, doubt
from lmprog.traces.record import Record


async def score_rows(
    program: Program,
    rows: Sequence[Mapping[str, Any]],
    metric: str | list[str] | tuple[str, ...],
    *,
    repeats: int = 1,
    options: RunOptions | None = None,
    concurrency: int | None = None,
    on_row: Callable[[RowScore], None] | None = None,
) -> AsyncIterator[RowScore]:
    """Run and score each row once for each of `repeats`, with other seeds each time; yield the scores repeat by repeat,
    in the order of the rows.

    Of several metrics the first is the score, the others are in its `others`. `options` None are the usual ones; their
    rollout is the number of the repeat. At most `concurrency` rows (None: the program's) run at a time, and as many are
    scored beside them. Rows that an outage ended are run again (twice at most) after the others of their repeat, and
    come last in it. `on_row` is called with each score before it is yielded, for a row that was run again with the last
    alone (None: nothing is). Raises UsageError for an unknown metric, an empty list of them and a negative
    `concurrency`, and BudgetExceeded for a spent budget.
    """
    scorers = scorers_of(program, [metric] if isinstance(metric, str) else metric)
    if not scorers:
        raise UsageError("name a metric: an empty list of them scores nothing")
    window = concurrency or program.concurrency
    for repeat in range(repeats):
        chosen = replace(options or RunOptions(), rollout=repeat)
        lost: list[RowScore] = []
        others = False
        # Closed at once where `on_row` raises, so that no run goes on.
        async with aclosing(_once(program, scorers, rows, chosen, concurrency, window)) as once:
            async for row_score in once:
                if row_score.lost:
                    lost.append(row_score)
                else:
                    others = True
                    yield _reported(row_score, on_row)

        async def again(place: int, before: RowScore, chosen: RunOptions = chosen) -> RowScore:
            row = rows[before.row]
            result = await program.run(program.inputs_of(row), example=before.row, options=chosen)
            return _with_earlier(await scored_by(scorers, row, result, before.row, chosen), before)

        for row_score in await run_again(lost, again, together=window, others=others, is_lost=lambda run: run.lost):
            yield _reported(row_score, on_row)


def _with_earlier(score: RowScore, before: RowScore) -> RowScore:
    """Return the score of a repeated run with the calls of the run before it, which an outage ended, by each metric."""
    return replace(
        score,
        judged=[*before.judged, *score.judged],
        earlier=[*before.earlier, *before.result.records],
        others={id: _with_earlier(other, before.others[id]) for id, other in score.others.items()},
    )


async def _once(
    program: Program,
    scorers: Sequence[Scorer],
    rows: Sequence[Mapping[str, Any]],
    options: RunOptions,
    concurrency: int | None,
    window: int,
) -> AsyncGenerator[RowScore, None]:
    """Run and score each row once, in the order of the rows."""
    scoring: deque[asyncio.Task[RowScore]] = deque()
    stream = program.stream(rows, options=options, concurrency=concurrency)
    try:
        index = 0
        async for result in stream:
            scoring.append(asyncio.create_task(scored_by(scorers, rows[index], result, index, options)))
            index += 1
            while scoring and (scoring[0].done() or len(scoring) >= window):
                yield await scoring.popleft()
        while scoring:
            yield await scoring.popleft()
    finally:
        await stream.aclose()
        for task in scoring:
            task.cancel()
        await asyncio.gather(*scoring, return_exceptions=True)


def _reported(row: RowScore, on_row: Callable[[RowScore], None] | None) -> RowScore:
    if on_row is not None:
        on_row(row)
    return row


async def scored_by(
    scorers: Sequence[Scorer], row: Mapping[str, Any], result: Result, index: int, options: RunOptions
) -> RowScore:
    """Return the score of one run's result by the first scorer, with those of the other scorers in its `others`, by metric.

    `row` is the data row, `index` its number; judges draw by the seed and rollout of `options`. A metric that others are
    computed from is computed once, unless it fails.
    """
    shared: dict[str, Score] = {}
    found = {scorer.metric.id: await scored(scorer, row, result, index, options, shared) for scorer in scorers}
    first, *others = found
    return replace(found[first], others={id: found[id] for id in others}) if others else found[first]


async def scored(
    scorer: Scorer,
    row: Mapping[str, Any],
    result: Result,
    index: int,
    options: RunOptions,
    shared: dict[str, Score] | None = None,
) -> RowScore:
    """Return the score of one run's result: the metric's lowest value for the program's own failure, no score for an outage.

    A failure may be the run's or the metric's; `lmprog.blame` decides which of the two it is. `row` is the data row, `index`
    its number; judges draw by the seed and rollout of `options`. `shared` holds scores of other metrics for the same result, by
    id, and those computed here are added to it (None: none are shared). Raises BudgetExceeded where a judge meets a spent
    budget.
    """
    judged: list[Record] = []

    def failed(kind: str, cause: str) -> RowScore:
        lost = is_outage(kind)
        feedback = None if lost else cause if kind == "metric" else f"the run failed: {cause}"
        value = None if lost else scorer.lowest
        return RowScore(index, options.rollout, value, result, feedback, cause, kind, judged)

    if result.error is not None:
        return failed(result.error.kind, str(result.error))
    inputs = scorer.program.inputs_of(row)
    try:
        score = await scorer.score(inputs, row, result, example=index, options=options, judged=judged, scores=shared)
    except ProviderError as error:
        return failed("provider", f"the judge {scorer.metric.id!r}: {error}")
    except ConnectionFailed as error:
        return failed("connection", f"the metric {scorer.metric.id!r}: {error}")
    except MetricFailed as error:
        return failed("metric", str(error))
    return RowScore(index, options.rollout, score.value, result, score.feedback, judged=judged, parts=score.parts)


@overload
async def aevaluate(program: Program, rows: Sequence[Mapping[str, Any]], metric: str, **how: Any) -> Scores: ...
@overload
async def aevaluate(
    program: Program, rows: Sequence[Mapping[str, Any]], metric: list[str] | tuple[str, ...], **how: Any
) -> dict[str, Scores]: ...
async def aevaluate(
    program: Program, rows: Sequence[Mapping[str, Any]], metric: str | list[str] | tuple[str, ...], **how: Any
) -> Scores | dict[str, Scores]:
    """Run `program` on `rows` and score each run, in a running event loop; return all scores in the order of the rows,
    for a list of metrics (also of one) a mapping by metric.

    `how` are the arguments `repeats`, `options`, `concurrency` and `on_row` of `evaluate`. Tools that write are called,
    not refused. Raises UsageError for an unknown metric, an empty list of them and a negative `concurrency`, and
    BudgetExceeded for a spent budget.
    """
    found = [row async for row in score_rows(program, rows, metric, **how)]
    found.sort(key=lambda score: (score.row, score.repeat))
    if isinstance(metric, str):
        return Scores(metric, found)
    first, *others = dict.fromkeys(metric)
    return {first: Scores(first, found), **{id: Scores(id, [row.others[id] for row in found]) for id in others}}


@overload
def evaluate(
    program: Program,
    rows: Any = None,
    metric: str | None = None,
    *,
    split: str | None = None,
    limit: int | None = None,
    repeats: int = 1,
    options: RunOptions | None = None,
    concurrency: int | None = None,
    on_row: Callable[[RowScore], None] | None = None,
    allow_writes: bool = False,
) -> Scores: ...
@overload
def evaluate(
    program: Program,
    rows: Any = None,
    metric: list[str] | tuple[str, ...] = ...,
    *,
    split: str | None = None,
    limit: int | None = None,
    repeats: int = 1,
    options: RunOptions | None = None,
    concurrency: int | None = None,
    on_row: Callable[[RowScore], None] | None = None,
    allow_writes: bool = False,
) -> dict[str, Scores]: ...
def evaluate(
    program: Program,
    rows: Any = None,
    metric: str | list[str] | tuple[str, ...] | None = None,
    *,
    split: str | None = None,
    limit: int | None = None,
    repeats: int = 1,
    options: RunOptions | None = None,
    concurrency: int | None = None,
    on_row: Callable[[RowScore], None] | None = None,
    allow_writes: bool = False,
) -> Scores | dict[str, Scores]:
    """Run `program` on `rows` and score each run by `metric`; return all scores, for a list of metrics (also of one) a
    mapping by metric.

    `rows` are mappings, a data frame or a data set; None takes the rows of the data split `split` (None: `test`). Of
    either only the first `limit` count (None: all). With `metric` None it is the one that `optimize` names, or the only
    one. Every row is run `repeats` times, each time with other seeds, at most `concurrency` at once (None: as the spec
    says), with `options` (None: the usual ones); `on_row` is called with each score (None: nothing is). A program with
    tools that write is refused unless `allow_writes`. Runs that an outage ended, and ended again when they were
    repeated, have no score (`errors`); other failed runs have the metric's lowest value (`failures`). Without rows the
    scores are empty, and have no `mean`. Raises UsageError for a metric or split that the program does not have, for
    `rows` beside a `split`, for an empty list of metrics, for a negative `limit` or `concurrency`, and for refused
    tools, RowsError where the split cannot be read, and BudgetExceeded for a spent budget.
    """
    if rows is not None and split is not None:
        raise UsageError(f"give rows, or name the split {split!r}, but not both")
    if limit is not None and limit < 0:
        raise UsageError(f"`limit` is the number of the first rows that count, and {limit} is none")
    chosen = (as_list(rows) if rows is not None else rows_of(program.plan, split or "test"))[:limit]
    refuse_writes([(program.plan, len(chosen) * repeats)], allow_writes)
    with NotebookBar(program.plan.name, len(chosen) * repeats) as bar:

        def tell(row: RowScore) -> None:
            bar.advance()
            if on_row is not None:
                on_row(row)

        how = {"repeats": repeats, "options": options, "concurrency": concurrency, "on_row": tell}
        if isinstance(metric, list | tuple):
            several = metric
            return run_async(lambda: aevaluate(program, chosen, several, **how))
        one = metric or default_metric(program.plan)
        return run_async(lambda: aevaluate(program, chosen, one, **how))


__all__ = ["Outages", "RowScore", "Score", "Scores", "aevaluate", "doubt", "evaluate", "score_rows", "scored"]
