"""The share of each module in the variance of a program's score.

For each row n runs are made, and their variance is V. For each of them and for some sets S of its calls one more run
is made, in which the calls of S are sampled anew and all others are replayed: half the mean square of the difference
of the two scores is W(S), the variance that is left when all replies but those of S are known (Jansen, Computer
Physics Communications 117, 1999). With "after c" for the calls that may follow from a call c, the share of a module
is

    the sum over its calls c of W(c and after c) - W(after c), divided by V.

The sum is the mean square of the change that the module's replies make in the expected score: of the advantage, in
terms of reinforcement learning. Where each call follows the one before it, the shares and the rest (judges and tools)
sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from lmprog.compiler.bounds import bounds
from lmprog.credit.sampling import Row, Sampling
from lmprog.errors import BudgetExceeded, ProviderError, UsageError
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.runtime.writes import refuse_writes
from lmprog.scoring.metrics import MetricFailed, Scorer
from lmprog.scoring.statistics import Estimate, estimate, ratio


@dataclass(frozen=True)
class ModuleCredit:
    """The shares of one module in the variance of the score, with intervals (None where the score does not vary); a share may
    come out below 0 or above 1.

    `calls` is the mean number of its LM calls in a run, `share` the part due to its own replies, `reached` the part due to its
    replies and all calls that may depend on them.
    """

    module: str
    calls: float
    """The mean number of the module's LM calls in a run."""
    share: Estimate | None
    """Share of the variance that is due to the module's own replies."""
    reached: Estimate | None
    """Share of the variance that is due to the module's replies and all calls that may follow from them."""

    def as_json(self) -> dict[str, Any]:
        """Return the module as a dictionary: `module`, `calls`, and `share` and `reached`, each a dictionary of `mean` and
        `ci95` (None: the score does not vary)."""
        return {"module": self.module, "calls": self.calls, "share": _json(self.share), "reached": _json(self.reached)}


@dataclass(frozen=True)
class Credit:
    """A credit report: the shares of all modules in the variance of a program's score by `metric`.

    `rows` counts the rows measured, `repeats` the runs of each, and `runs` all runs, also those in which calls are replayed.
    `reward` is the mean score, `deviation` its standard deviation among the runs of a row. `rest` is the share that remains
    when every reply is replayed (judges, tools; None where the score does not vary). `lost` has by kind of outage the number of
    runs without a score and the first reason, `failed` the same by kind of own failure, and `note` says which rows a spent
    budget left out (None: it left out none).
    """

    metric: str
    rows: int
    """The number of rows with enough scored runs, which the report is over."""
    repeats: int
    runs: int
    """Number of all runs, including the runs in which most calls are replayed."""
    reward: Estimate
    deviation: float
    """The standard deviation of the runs of a row."""
    modules: Sequence[ModuleCredit]
    rest: Estimate | None
    """The share that remains when every reply is replayed, of judges and of tools whose results vary; None where the score
    does not vary."""
    lost: Mapping[str, tuple[int, str]]
    """The number of runs that could not be scored and the reason of the first, by kind of outage."""
    failed: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """The number of runs that ended so and the reason of the first, by kind of own failure."""
    note: str | None = None
    """A sentence on the rows that a spent budget left out; None where there are none."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as a dictionary: `metric`, `rows`, `repeats`, `runs`, `reward`, `deviation`, `modules` (a
        list), `rest`, `note`, and `lost` and `failed`, each by kind with `runs` and `first`. Shares have their
        interval."""
        return {
            "metric": self.metric,
            "rows": self.rows,
            "repeats": self.repeats,
            "runs": self.runs,
            "reward": self.reward.as_json(),
            "deviation": self.deviation,
            "modules": [module.as_json() for module in self.modules],
            "rest": _json(self.rest),
            "lost": {kind: {"runs": count, "first": first} for kind, (count, first) in self.lost.items()},
            "failed": {kind: {"runs": count, "first": first} for kind, (count, first) in self.failed.items()},
            "note": self.note,
        }


def _json(share: Estimate | None) -> dict[str, Any] | None:
    """Return a share with its interval as a dictionary; None for None."""
    return share.as_json() if share is not None else None


async def measure(
    program: Program,
    rows: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    repeats: int = 8,
    options: RunOptions | None = None,
    format_failure: float | None = None,
    on_row: Callable[[], None] | None = None,
    allow_writes: bool = False,
) -> Credit:
    """Measure the credit of each module by the metric of the id `metric`: make `repeats` runs of each data row, then repeat
    them with some calls sampled anew; return the report.

    `options` are those of the runs, as the seed (None: the usual ones). A run that fails by itself has the reward
    `format_failure` (None: the lower end of the metric's range). Several rows are measured together, and `on_row` is then
    called once for each (None: nothing is). Where a budget is spent, the rows that were done are reported. Raises
    BudgetExceeded where none was, ProviderError where outages left no row two runs, MetricFailed where the metric raised in
    every run, and UsageError for fewer than one row or two repeats, or for tools that write without `allow_writes`.
    """
    if not rows or repeats < 2:
        raise UsageError("credit needs at least one row, and two runs of it")
    refuse_writes([(program.plan, None)], allow_writes)
    sampling = Sampling(program, rows, Scorer(program, metric), repeats, options or RunOptions(), format_failure)
    measured: list[Row] = []
    note = None
    # As many rows together as are at work at a time, so that a budget cuts between rows.
    together = max(1, program.concurrency // repeats)
    for first in range(0, len(rows), together):
        block = range(first, min(first + together, len(rows)))
        try:
            measured += await sampling.rows(block)
        except BudgetExceeded as error:
            if not measured:
                raise
            note = f"{error}, after {first} of {len(rows)} rows"
            break
        for _ in block:
            if on_row is not None:
                on_row()
    if not measured:
        _, cause = next(iter(sampling.lost.values()))
        raise ProviderError(f"no row has two runs that could be scored: {cause}")
    count, cause = sampling.failed.get("metric", (0, ""))
    if count == sampling.runs - sum(lost for lost, _ in sampling.lost.values()):
        raise MetricFailed(f"no run could be scored: {cause}")
    wholes = [row.variance for row in measured]
    modules = [
        ModuleCredit(
            module,
            fmean(row.calls.get(module, 0.0) for row in measured),
            ratio([row.own.get(module, 0.0) for row in measured], wholes),
            ratio([row.reached.get(module, 0.0) for row in measured], wholes),
        )
        for module in bounds(program.plan).calls
    ]
    return Credit(
        metric,
        len(measured),
        repeats,
        sampling.runs,
        estimate([row.mean for row in measured]),
        math.sqrt(fmean(wholes)),
        modules,
        ratio([row.rest for row in measured], wholes),
        sampling.lost,
        sampling.failed,
        note,
    )
