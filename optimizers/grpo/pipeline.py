"""A pipeline of waves: while one step is trained, servers sample the waves of the next ones, with slightly older weights.

The wave of step w is sampled with the weights after step max(0, w - staleness): which weights sample it follows from its number
and not from the clock. All waves that may begin are sampled at the same time, so that the longest rollouts of one hold up no
other. With `no_signal: resample` they are sampled one after the other, since the examples of each depend on the rewards of the
one before. Rows are made in the order of the steps, since the running averages of the rewards go from each to the next. What
the older weights sampled counts by min(p / q, cap), as everything that a server samples does (`importance.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from lmprog.errors import LmprogError
from lmprog.optimizers import processes
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.policy import Policy
from lmprog.optimizers.grpo.row_source import SamplerState, StepRows
from lmprog.optimizers.grpo.sampler import Sampler
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.runtime.program import Program


@dataclass(frozen=True)
class _Wave:
    rows: StepRows
    state: SamplerState
    """The sampler's state after the wave, from which a resumed run goes on."""


class Pipeline:
    """A source of training rows that samples the rollouts of the next `staleness` steps ahead, by a sampler and on servers,
    while the trainer works in a thread."""

    imitates = False

    def __init__(self, sampler: Sampler, policy: Policy) -> None:
        """Set up the pipeline around a sampler of the same policy. Raises LmprogError where an LM of the program runs in this
        process, which is at work with training, and where several processes train."""
        here = [lm.id for lm in policy.start.plan.lms.values() if lm.runs_here]
        if here:
            raise LmprogError(
                f"`staleness` samples on servers while weights are trained here, and {here[0]!r} runs in this process; serve "
                "it (hosted_vllm/... with weights), or leave staleness out"
            )
        if processes.count() > 1:
            raise LmprogError("`staleness` with several training processes is not tested; leave one of them out")
        self._sampler, self._policy = sampler, policy
        self.clock = Stopwatch()
        self._state = sampler.state
        self._waves: dict[int, asyncio.Task[_Wave]] = {}
        self._step_of: dict[str, int] = {}
        """The last step after which the weights of a name were those in training."""

    @property
    def config(self) -> Config:
        """The options of the stage."""
        return self._sampler.config

    @property
    def state(self) -> SamplerState:
        """The sampler's state after the wave that was trained last; waves sampled ahead are not part of a checkpoint."""
        return self._state

    @state.setter
    def state(self, state: SamplerState) -> None:
        self._state = self._sampler.state = state

    async def begin(self) -> bool:
        """Take over the temperature and the rewards seen from the probe of an earlier process, if the journal has one; return
        True."""
        return await self._sampler.begin()

    async def before_first_step(self) -> None:
        """Measure on a few train rows whether there is a learning signal, as the sampler does; raise the errors that it
        raises."""
        await self._sampler.before_first_step()
        self._state = replace(self._sampler.state)

    def params(self) -> dict[str, dict[str, Any]]:
        """Return by module the sampling parameters of the modules in training: `temperature`, `top_p`, `top_k` and
        others that switch truncation off."""
        return self._sampler.params()

    async def rows(self, step: int) -> StepRows:
        """Start sampling the waves of the updates that follow `step` and the next `staleness` steps (none after the
        last step), with the weights after `step`, where they have not begun; return the training rows of the first of
        these updates, when its wave has ended.

        Rows sampled with weights more than `staleness` steps old are left out, and counted as `stale`; `age` is the
        mean number of steps that the weights of the others are behind. All rows may be left out. Raises ProviderError,
        MetricFailed and LmprogError as the sampler does.
        """
        most = self.config.staleness
        with self.clock.part("rollout"):
            await self._policy.show(step)
            self._step_of.update(dict.fromkeys(self._policy.answering, step))
            for later in range(step, min(step + most + 1, self.config.steps)):
                if later not in self._waves:
                    before = self._waves.get(later - 1)
                    self._waves[later] = asyncio.create_task(self._wave(later, self._policy.program, before))
            wave = await self._waves[step]
        # Kept until the next wave has begun from it.
        self._waves = {later: task for later, task in self._waves.items() if later >= step}
        self._state = wave.state
        ages = [step - self._step_of.get(row.weights, -most - 1) for row in wave.rows.rows]
        rows = [row for row, age in zip(wave.rows.rows, ages, strict=True) if age <= most]
        known = [age for age in ages if age <= most]
        age = sum(known) / len(known) if known else 0.0
        return StepRows(rows, {**wave.rows.health, "rows": len(rows), "age": age, "stale": len(ages) - len(rows)})

    async def close(self) -> None:
        """Cancel the waves that are being sampled, and wait until they have ended."""
        for task in self._waves.values():
            task.cancel()
        await asyncio.gather(*self._waves.values(), return_exceptions=True)
        self._waves = {}

    async def _wave(self, step: int, program: Program, before: asyncio.Task[_Wave] | None) -> _Wave:
        """Sample the wave of a step by `program`, and make its rows after those of the wave `before` (None: there is none, or
        it has ended); where `before` fails or is cancelled, this wave is cancelled too."""
        if before is not None and not self._sampler.draws_ahead:
            await _ended(before)
        sampling = asyncio.create_task(self._sampler.sample(step, program))
        try:
            if before is not None:
                await _ended(before)
            sampled = await sampling
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
        rows = self._sampler.rows_from(step, sampled, program)
        return _Wave(rows, replace(self._sampler.state, taken=sampled.taken))


async def _ended(wave: asyncio.Task[_Wave]) -> None:
    await asyncio.wait([wave])
    if wave.cancelled() or wave.exception() is not None:
        raise asyncio.CancelledError
