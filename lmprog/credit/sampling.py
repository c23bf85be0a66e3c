"""The runs behind a credit report: whole runs, and repetitions of each in which some calls are sampled anew and others
replayed.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, variance
from typing import Any

from lmprog.credit.order import Order, Places
from lmprog.credit.replies import Replies, whole_path
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.scoring.evaluation import RowScore, scored
from lmprog.scoring.metrics import Scorer
from lmprog.scoring.rerun import run_all
from lmprog.traces.record import Invocation

NOTHING: Places = frozenset()


@dataclass(frozen=True)
class Row:
    """The measurements of one data row: mean and variance of the score over its runs, and parts of that variance.

    By module: `calls` is the mean number of LM calls of a run, `own` the variance due to its own replies (it may come out below
    0), `reached` that due to its replies and all calls that may depend on them. Modules that no run called are left out. `rest`
    is the variance that remains when all replies are replayed.
    """

    mean: float
    variance: float
    calls: Mapping[str, float]
    own: Mapping[str, float]
    reached: Mapping[str, float]
    rest: float


@dataclass(frozen=True, eq=False)
class _Run:
    """A scored run of the row of the number `example`, with the records of its LM calls."""

    example: int
    reward: float | None
    """The reward; None where the run could not be scored."""
    trace: Sequence[Invocation]


@dataclass(frozen=True)
class _Sampled:
    """A run's score and replies, and by set of places the score of its repetition in which the calls at these places were
    sampled anew (None: it has none)."""

    reward: float
    replies: Replies
    again: Mapping[Places, float | None]


class Sampling:
    """Makes and scores the runs of a credit report on the rows `data`: `repeats` runs of a row, and their repetitions.

    A run that failed by itself has the reward `format_failure` (None: the metric's lowest value). `runs` counts all runs,
    `lost` and `failed` have by kind of outage and of own failure the number of runs and the first reason.
    """

    def __init__(
        self,
        program: Program,
        data: Sequence[Mapping[str, Any]],
        scorer: Scorer,
        repeats: int,
        options: RunOptions,
        format_failure: float | None,
    ) -> None:
        self.program, self.data, self.scorer = program, data, scorer
        self.repeats, self.options = repeats, options
        self.format_failure = scorer.lowest if format_failure is None else format_failure
        self.order = Order(program.plan)
        self.gate = asyncio.Semaphore(program.concurrency)
        self.runs = 0
        self.lost: dict[str, tuple[int, str]] = {}
        self.failed: dict[str, tuple[int, str]] = {}

    async def rows(self, examples: Sequence[int]) -> list[Row]:
        """Make the runs of each row whose number is in `examples`, and their repetitions; return the rows' measurements, in
        this order. Rows with too few scored runs are left out.

        A row counts where two of its runs have scores, and one of them also has scores for all its repetitions with calls
        sampled anew. Raises BudgetExceeded for a spent budget; what was measured of these rows is then lost.
        """
        made = await self._all([
            partial(self._run, example, rollout) for example in examples for rollout in range(self.repeats)
        ])  # fmt: skip
        bases = {example: [run for run in made if run.example == example] for example in examples}
        scored = {example: [run for run in runs if run.reward is not None] for example, runs in bases.items()}
        sampled = await self._again([run for runs in scored.values() if len(runs) > 1 for run in runs])
        found = [self._row(runs, sampled) for runs in scored.values() if len(runs) > 1]
        return [row for row in found if row is not None]

    async def _again(self, bases: Sequence[_Run]) -> dict[_Run, _Sampled]:
        """Repeat each run of `bases`, once for each set of its calls that is to be sampled anew; return the runs, each with
        the scores of its repetitions."""
        replies = {base: Replies(self.order, base.trace) for base in bases}
        jobs = [(base, anew) for base in bases for anew in self._needed(replies[base])]
        # Numbered within its row, so that what a row draws does not depend on the other rows.
        numbers: Counter[int] = Counter()
        work = []
        for base, anew in jobs:
            number = self.repeats + numbers[base.example]
            numbers[base.example] += 1
            work.append(partial(self._run, base.example, number, replace(self.options, replay=replies[base].but(anew))))
        again: dict[_Run, dict[Places, float | None]] = {base: {} for base in bases}
        for (base, anew), run in zip(jobs, await self._all(work), strict=True):
            again[base][anew] = run.reward
        return {base: _Sampled(base.reward or 0.0, replies[base], again[base]) for base in bases}

    def _needed(self, replies: Replies) -> list[Places]:
        """Return the sets of places whose calls are sampled anew in repetitions of a run with these replies; the empty set is
        one of them, unless the run has no replies.

        The set of all calls is left out, since the runs of a row are samples of it themselves.
        """
        sets = self.order.sets(replies.places)
        own = [chosen for counts in sets.own.values() for chosen in counts]
        wanted = dict.fromkeys([*own, *sets.reached.values(), NOTHING])
        return [chosen for chosen in wanted if chosen != replies.places.keys()]

    async def _all(self, work: Sequence[Callable[[], Awaitable[RowScore]]]) -> list[_Run]:
        """Make the runs of `work`, again those that an outage ended; return them in order with their rewards, and count the
        runs and their failures."""
        self.runs += len(work)
        return [self._counted(run) for run in await run_all(work, together=self.program.concurrency)]

    async def _run(self, example: int, rollout: int, options: RunOptions | None = None) -> RowScore:
        """Run and score the row of the number `example` once; `options` None are those of the report."""
        chosen = replace(options or self.options, rollout=rollout)
        row = self.data[example]
        async with self.gate:
            result = await self.program.run(self.program.inputs_of(row), example=example, options=chosen)
            return await scored(self.scorer, row, result, example, chosen)

    def _counted(self, run: RowScore) -> _Run:
        if run.kind is None:
            return _Run(run.row, run.value, run.result.trace)
        of_kind = self.lost if run.value is None else self.failed
        count, first = of_kind.get(run.kind, (0, run.cause or ""))
        of_kind[run.kind] = count + 1, first
        return _Run(run.row, None if run.value is None else self.format_failure, run.result.trace)

    def _row(self, runs: Sequence[_Run], sampled: Mapping[_Run, _Sampled]) -> Row | None:
        """Return the measurements of a row from its scored runs; None where no run has scores of all its repetitions."""
        rewards = [sampled[run].reward for run in runs]
        whole = variance(rewards)
        # A difference of which one side is missing says nothing.
        parts = [found for run in runs if (found := self._parts(sampled[run], whole)) is not None]
        if not parts:
            return None
        calls = Counter(self.order.place(whole_path(made))[1] for run in runs for made in run.trace)
        return Row(
            fmean(rewards),
            whole,
            {module: count / len(runs) for module, count in calls.items()},
            _means([own for own, _, _ in parts]),
            _means([reached for _, reached, _ in parts]),
            fmean(rest for _, _, rest in parts),
        )

    def _parts(self, run: _Sampled, whole: float) -> tuple[dict[str, float], dict[str, float], float] | None:
        """Return one run's estimates of each module's own part of the variance, the part of all calls that it reaches, and
        the remainder when all calls are replayed; None where a repetition has no score. `whole` is the variance of the row."""
        left = {frozenset(run.replies.places): whole}
        for anew, reward in run.again.items():
            if reward is None:
                return None
            left[anew] = (run.reward - reward) ** 2 / 2
        sets = self.order.sets(run.replies.places)
        own = {
            module: math.fsum(sign * left[chosen] for chosen, sign in counts.items())
            for module, counts in sets.own.items()
        }
        return own, {module: left[chosen] for module, chosen in sets.reached.items()}, left[NOTHING]


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each name over all mappings; a name that a mapping lacks counts as 0."""
    names = dict.fromkeys(name for values in found for name in values)
    return {name: fmean(values.get(name, 0.0) for values in found) for name in names}
