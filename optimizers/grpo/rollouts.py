"""The rollouts of one step: the whole program, several times on each example, scored. Imports no torch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmprog.errors import LmprogError, ProviderError
from lmprog.invocation import Invocation
from lmprog.metrics import MetricFailed, Scorer
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.program import Program, RunOptions
from lmprog.seeds import derive


@dataclass(frozen=True)
class Rollout:
    """One run on one example. Its reward is the program's score, and all its invocations inherit it."""

    example: int
    rollout: int
    reward: float
    invocations: tuple[Invocation, ...]
    unreadable: bool = False


@dataclass(frozen=True)
class Wave:
    """The rollouts of one step; `lost` runs failed for a reason that says nothing about the program, and are in no group."""

    rollouts: tuple[Rollout, ...]
    lost: int

    def by_signal(self) -> tuple[list[int], list[int]]:
        """The examples whose runs differ in their rewards, and those whose runs do not, each in their order."""
        rewards: dict[int, set[float]] = {}
        for rollout in self.rollouts:
            rewards.setdefault(rollout.example, set()).add(rollout.reward)
        with_signal = [example for example, found in rewards.items() if len(found) > 1]
        return with_signal, [example for example in rewards if example not in with_signal]


def examples_at(first: int, count: int, rows: int, seed: int) -> list[int]:
    """The indices of the `count` examples after the first `first` of a run.

    Each epoch goes through all rows once, in an order of its own.
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
    """Run the program `rollouts` times on each of `examples`, all at once, with `params` of modules over their own.

    A run with a reply that cannot be read ends there, with the reward `format_failure`; a reply is never asked for again.
    `clock` counts as `score` the time in which a run is scored, be it while others run. Raises LmprogError where no run at all
    could be scored, ProviderError where a provider is why.
    """
    clock = clock or Stopwatch()

    async def one(example: int, rollout: int) -> Rollout | LmprogError:
        options = RunOptions(seed=seed, module_params=params, retry=False, rollout=rollout)
        inputs = program.inputs_of(rows[example])
        result = await program.run(inputs, example=example, options=options)
        if result.error is not None:
            if result.error.kind != "unreadable":
                failed = ProviderError if result.error.kind == "provider" else LmprogError
                return failed(str(result.error))
            return Rollout(example, rollout, format_failure, tuple(result.trace), unreadable=True)
        try:
            with clock.part("score"):
                score = await scorer.score(inputs, rows[example], result, example=example, options=options)
        except (ProviderError, MetricFailed) as error:
            return error
        return Rollout(example, rollout, score.value, tuple(result.trace))

    tasks = [asyncio.create_task(one(example, number)) for example in examples for number in range(rollouts)]
    try:
        finished = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    kept = tuple(run for run in finished if isinstance(run, Rollout))
    failures = [run for run in finished if isinstance(run, LmprogError)]
    if failures and not kept:
        raise type(failures[0])(f"not one of {len(failures)} rollouts could be scored: {failures[0]}")
    return Wave(kept, len(failures))
