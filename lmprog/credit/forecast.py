"""Worst-case forecast of the LM calls of a credit report, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.compiler.bounds import judges
from lmprog.credit.order import Order
from lmprog.runtime.program import Program
from lmprog.spending.estimate import Forecast, Part, timed
from lmprog.spending.worst_case import Growth, asks


def forecast(
    program: Program,
    metric: str,
    sampled: Sequence[Mapping[str, Any]],
    repeats: int,
    compared: Sequence[Mapping[str, Any]] = (),
    versions: int = 0,
) -> Forecast:
    """Return the worst case and estimate of a credit report: `repeats` runs on each data row of `sampled`, then the repetitions
    of each run in which some calls are sampled anew.

    With `versions` above 0 it includes the scoring of so many programs on each data row of `compared`. A run in which some
    calls are sampled anew is counted as a run that makes all its calls. `metric` is the id of the metric that scores.
    """
    judging = [ask for judge in judges(program.plan, metric) for ask in asks(judge, (), Growth(None, None))]
    run = asks(program.plan, [*sampled, *compared], Growth())
    runs = len(sampled) * repeats
    anew = Order(program.plan).anew()
    parts = [
        Part("runs", [ask.times(runs) for ask in [*run, *judging]]),
        Part(
            "calls sampled anew",
            [*(ask.times(runs * anew) for ask in run), *(ask.times(runs * (anew + 1)) for ask in judging)],
        ),
    ]
    if versions:
        scored = len(compared) * versions
        parts.append(Part("modules tuned alone", [ask.times(scored) for ask in [*run, *judging]]))
    return timed(program.plan, program.concurrency, parts)
