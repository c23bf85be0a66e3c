"""The cost of an evaluation before it is made: bounds and estimates of its LM calls, those of judges included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmprog.compiler.bounds import judges
from lmprog.compiler.plan import Plan
from lmprog.runtime.program import Program
from lmprog.spending.estimate import Forecast, Part, timed
from lmprog.spending.worst_case import CallBound, Growth, asks


def scoring_cost(
    programs: Iterable[tuple[str, Program]], rows: Sequence[Mapping[str, Any]], repeats: int, metrics: Sequence[str]
) -> Forecast:
    """Return the worst case and estimate of scoring each program on the rows, `repeats` times each, with a part for each
    program under its name in `programs` (at least one).

    `metrics` are the ids of the metrics, whose judges are included. Calls that wait for batches have the price of batches.
    Times are estimated with the LMs and the concurrency of the first program.
    """
    listed = list(programs)
    first = listed[0][1]
    parts = []
    for name, program in listed:
        run = [*asks(program.plan, rows, Growth(0, 0)), *_judged(program.plan, metrics)]
        parts.append(Part(name, [ask.times(len(rows) * repeats) for ask in run]))
    return timed(first.plan, first.concurrency, parts)


def _judged(plan: Plan, metrics: Sequence[str]) -> list[CallBound]:
    """Return the most calls of LM judges for one score by `metrics` (ids), at the prices of batches where the program's
    calls wait for batches."""
    batch = any(lm.batch for lm in plan.lms.values())
    inner = {id(judge): judge for metric in metrics for judge in judges(plan, metric)}
    found = [ask for judge in inner.values() for ask in asks(judge, (), Growth(None, None))]
    return [replace(ask, lm=replace(ask.lm, batch=batch and not ask.lm.runs_here)) for ask in found]
