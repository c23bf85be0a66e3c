"""The rollouts of one step: the whole program, several times on each example, scored. Imports no torch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from lmprog.errors import ProviderError
from lmprog.optimizers.grpo.advantages import differ
from lmprog.optimizers.grpo.sampling.peers import Peers
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.scoring.evaluation import RowScore, scored
from lmprog.scoring.metrics import MetricFailed, Scorer
from lmprog.scoring.rerun import run_all
from lmprog.seeds import derive
from lmprog.traces.record import Invocation


@dataclass(frozen=True)
class Rollout:
    """A sampled run of the program on an example (its row's index), with its number (`rollout`), its reward, and its LM
    calls (`invocations`), to which the reward applies.

    `failure` is the kind of an own failure (None: none), `teacher` the teacher that made the run (None: the program),
    and `rewards` has by module the rewards of those that follow rewards of their own.
    """

    example: int
    rollout: int
    reward: float
    invocations: tuple[Invocation, ...]
    failure: str | None = None
    """The kind of the run's own failure (`lmprog.blame`), where it failed."""
    teacher: str | None = None
    """The teacher whose run it is, by its path in the spec."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Rewards by module, where modules follow rewards of their own; `reward` is then their mean."""

    def reward_of(self, module: str | None) -> float:
        """Return the reward for the calls of a module; for None that of the whole run."""
        return self.reward if module is None else self.rewards.get(module, self.reward)


Width = Callable[[str | None], float]
"""The width of the range of the reward that a module follows; None for that of the run as a whole."""


def unit(module: str | None) -> float:
    """Return 1.0, the width of the range of a metric that sets none, for each module and for None, a whole run."""
    return 1.0


@dataclass(frozen=True)
class SkippedRuns:
    """Counts of a teacher's runs that are not trained on: ended by an outage, failed, or with a reply that the program
    cannot give.
    """

    lost: int = 0
    """Number of runs that an outage ended."""
    failed: int = 0
    """Number of runs that failed by themselves, which is no fault of the program in training."""
    unfit: int = 0
    """Number of runs with a reply that the program in training could not give."""

    def plus(self, other: SkippedRuns) -> SkippedRuns:
        """Return the counts of both, added."""
        return SkippedRuns(self.lost + other.lost, self.failed + other.failed, self.unfit + other.unfit)


@dataclass(frozen=True)
class Wave:
    """Rollouts on some examples that are sampled together for a training step, which may draw several waves. `lost` counts
    the program's runs that outages ended, which are in no group.

    `skipped_runs` has by teacher the counts of runs that are not trained on.
    """

    rollouts: tuple[Rollout, ...]
    lost: int
    skipped_runs: Mapping[str, SkippedRuns] = field(default_factory=dict)
    """Runs that are in no group, by teacher."""

    def by_signal(self, width: Width = unit) -> tuple[list[int], list[int]]:
        """Return the examples whose runs, those of teachers too, differ in reward (where modules follow rewards of
        their own, in that of any module), and the examples whose runs do not, each in the order of the rollouts.
        `width` returns the width of the range of a module's reward."""
        runs: dict[int, list[Rollout]] = {}
        for rollout in self.rollouts:
            runs.setdefault(rollout.example, []).append(rollout)
        with_signal = [example for example, found in runs.items() if _differ(found, width)]
        return with_signal, [example for example in runs if example not in with_signal]


def _differ(runs: Sequence[Rollout], width: Width) -> bool:
    followed: list[str | None] = [*dict.fromkeys(module for run in runs for module in run.rewards)] or [None]
    return any(differ([run.reward_of(module) for run in runs], width(module)) for module in followed)


def of_examples(waves: Sequence[Wave], most: int, width: Width = unit) -> Wave:
    """Return several waves joined to one, with the rollouts of at most `most` examples, those with signal first, all
    runs `lost` in them, and without `skipped_runs`. No two of the waves have an example in common. `width` returns the
    width of the range of a module's reward."""
    split = [wave.by_signal(width) for wave in waves]
    order = [example for with_signal, _ in split for example in with_signal]
    order += [example for _, without in split for example in without]
    kept = frozenset(order[:most])
    chosen = tuple(rollout for wave in waves for rollout in wave.rollouts if rollout.example in kept)
    return Wave(chosen, sum(wave.lost for wave in waves))


def examples_at(first: int, count: int, rows: int, seed: int) -> list[int]:
    """Return the indices of the `count` train rows that are drawn after the first `first` draws of the training; `rows` is
    the number of train rows, 1 or more.

    Each epoch goes through all rows once, in an order of its own by the seed; where an epoch ends within the draw an index
    may come twice.
    """
    orders = []
    for epoch in range(first // rows, (first + count - 1) // rows + 1):
        order = list(range(rows))
        random.Random(derive(seed, "epoch", epoch)).shuffle(order)
        orders += order
    within = first % rows
    return orders[within : within + count]


async def collect(
    program: Program,
    rows: Sequence[Mapping[str, Any]],
    examples: Sequence[int],
    scorer: Scorer,
    *,
    rollouts: int,
    params: Mapping[str, Mapping[str, Any]],
    format_failure: float,
    seed: int,
    clock: Stopwatch | None = None,
) -> Wave:
    """Sample a wave: run the program `rollouts` times on each of `examples` (indices of `rows`), all at once, and score
    every run.

    `params` of modules override their own. A run that fails by itself (`lmprog.blame`) ends there; all its calls have
    the reward `format_failure`, and so have those of a run whose metric raises; an unreadable reply is not asked for
    again. `clock` counts the time in which any run is scored as `score` (None: nothing counts). Raises ProviderError
    where outages ended all runs, MetricFailed where the metric raised in all of them, and BudgetExceeded. All draws
    follow from `seed`.
    """
    options = RunOptions(seed=seed, module_params=params, retry=False)
    runs = await run_each(program, rows, examples, scorer, range(rollouts), options, clock=clock)
    check_scored(runs, "rollouts")
    return Wave(rollouts_of(runs, format_failure), sum(run.value is None for run in runs))


async def run_each(
    program: Program,
    rows: Sequence[Mapping[str, Any]],
    examples: Sequence[int],
    scorer: Scorer,
    numbers: Iterable[int],
    options: RunOptions,
    *,
    clock: Stopwatch | None = None,
) -> list[RowScore]:
    """Run and score the program once for each example (index of `rows`) and each rollout number in `numbers`, all at once;
    return the scores in that order, by example first.

    Runs that an outage ended are repeated at the end, up to twice; what is lost then has no score. `clock` measures the time
    of scoring (None: nothing does). Raises BudgetExceeded.
    """
    clock = clock or Stopwatch()
    numbers = [*numbers]
    peers = Peers(scorer, len(numbers))

    async def one(example: int, number: int) -> RowScore:
        own = replace(options, rollout=number)
        result = await program.run(program.inputs_of(rows[example]), example=example, options=own)
        beside = await peers.scorer(example, number, result)
        with clock.part("score"):
            return await scored(beside, rows[example], result, example, own)

    work = [partial(one, example, number) for example in examples for number in numbers]
    return await run_all(work, together=program.concurrency)


def rollouts_of(runs: Sequence[RowScore], format_failure: float) -> tuple[Rollout, ...]:
    """Return scored runs as rollouts, without runs that have no score; own failures have the reward `format_failure`."""
    return tuple(
        Rollout(
            run.row,
            run.repeat,
            run.value if run.kind is None else format_failure,
            tuple(run.result.trace),
            run.kind,
            rewards=run.parts,
        )
        for run in runs
        if run.value is not None
    )


def check_scored(runs: Sequence[RowScore], what: str) -> None:
    """Raise ProviderError where an outage ended every run, and MetricFailed where the metric raised in all others; do nothing
    where there are no runs.

    `what` names the runs in the message, in the plural.
    """
    left = [run for run in runs if run.value is not None]
    if runs and not left:
        raise ProviderError(f"not one of {len(runs)} {what} could be scored: {runs[0].cause}")
    if left and all(run.kind == "metric" for run in left):
        raise MetricFailed(f"not one of {len(runs)} {what} could be scored: {left[0].cause}")
