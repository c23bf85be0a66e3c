"""The sampler of a `grpo` stage: waves of rollouts, their rewards, and the training rows that come of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lmprog.optimizers.grpo.advantages import update_averages
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.math.comparisons import compare, seen
from lmprog.optimizers.grpo.math.health import health
from lmprog.optimizers.grpo.math.overlong import is_cut, longest, penalised, warn_of_cuts
from lmprog.optimizers.grpo.math.training_rows import training_rows
from lmprog.optimizers.grpo.policy import Policy
from lmprog.optimizers.grpo.prompts import Prompts
from lmprog.optimizers.grpo.row_source import SamplerState, StepRows
from lmprog.optimizers.grpo.sampling.probe import probe
from lmprog.optimizers.grpo.sampling.reward import Reward
from lmprog.optimizers.grpo.sampling.rollouts import Wave, collect, examples_at, of_examples
from lmprog.optimizers.grpo.sampling.teachers import Teachers, teachers_of
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.optimizer import Task
from lmprog.runtime.program import Program
from lmprog.seeds import derive


@dataclass(frozen=True)
class Sampled:
    """The waves of rollouts of one step; `taken` is the number of examples drawn in the training until then, with those of
    earlier steps."""

    waves: Sequence[Wave]
    taken: int


class Sampler:
    """The source of training rows of `grpo` and `fast_slow`: it samples rollouts with the present weights of `policy` under
    `prompts`, and compares the calls of each module.

    `config` are the stage's options; the probe sets `temperature` in them. `clock` measures the time of sampling and scoring.
    """

    imitates = False

    def __init__(self, task: Task, config: Config, policy: Policy, prompts: Prompts, clock: Stopwatch) -> None:
        self.task, self.config, self.policy, self.prompts, self.clock = task, config, policy, prompts, clock
        self.scorer = Reward(task.program, task.metric, policy.modules, config)
        self.teachers = Teachers(teachers_of(task.program, config), task.program, task.train, self.scorer, policy.lm_of)
        self.state = SamplerState()

    async def begin(self) -> bool:
        """Take over the temperature and the rewards seen from the probe of an earlier process, if the journal has one;
        return True, since there is always something to sample.
        """
        if self.task.journal.recall("probe") is not None:
            await self._probe()
        return True

    async def before_first_step(self) -> None:
        """Measure on a few train rows, with the weights in training, whether there is a learning signal, and take the
        temperature from it; do nothing where the option `probe` is 0 or the journal has the probe already. A lack of
        signal is only noted. Raises ProviderError where outages ended all runs or a server does not load the weights,
        and MetricFailed where the metric raised in all runs."""
        if self.config.probe and self.task.journal.recall("probe") is None:
            await self.policy.show(0)
            await self._probe()

    async def _probe(self) -> None:
        """Take the temperature and the rewards seen from the probe, which is made, or read from the journal.

        The weights that are to be trained answer, so that a server which does not load them fails before the first step.
        """
        task = replace(self.task, program=self.policy.program)
        found = await probe(task, self.config, self.scorer, self.policy.params, self.scorer.of_failures)
        if found is not None:
            self.config = self.config.model_copy(update={"temperature": found["temperature"]})
            self.state.levels = {name: [*values] for name, values in found["levels"].items()}

    def params(self) -> dict[str, dict[str, Any]]:
        """Return by module in training the sampling parameters of its rollouts: `temperature`, and values of `top_p`,
        `top_k` and others that switch truncation off."""
        return self.policy.params(self.config.temperature_of)

    async def rows(self, step: int) -> StepRows:
        """Sample the rollouts of the update that follows `step`, and return its training rows as `rows_from` does.
        Raises ProviderError where outages ended all runs of a wave or a server does not load the weights, and
        MetricFailed where the metric raised in all runs of a wave, and LmprogError as `rows_from`.
        """
        with self.clock.part("rollout"):
            await self.policy.show(step)
            await self.prompts.prepare(step, self.policy.program)
            sampled = await self.sample(step, self.policy.program)
        return self.rows_from(step, sampled, self.policy.program)

    @property
    def draws_ahead(self) -> bool:
        """True if the examples of a step do not depend on the rewards of the step before, so that steps can be sampled
        at the same time."""
        return self.config.no_signal != "resample"

    async def sample(self, step: int, program: Program) -> Sampled:
        """Sample the rollouts of the update that follows `step` by `program`, which has the weights to use; count the
        examples drawn in `state`.

        One wave is drawn; with `no_signal: resample` further ones, until `examples` of the examples have a signal, there
        are `resample_waves` waves, or every train row was drawn. The examples of the first wave are drawn when the coroutine
        begins, before it waits for anything. Raises ProviderError where outages ended all runs of a wave, and MetricFailed
        where the metric raised in all of them.
        """
        waves: list[Wave] = []
        drawn: set[int] = set()
        taken = self.state.taken
        most = self.config.resample_waves if self.config.no_signal == "resample" else 1
        while len(waves) < most and len(drawn) < len(self.task.train):
            examples = examples_at(taken, self.config.examples, len(self.task.train), self.task.seed)
            self.state.taken = taken = taken + len(examples)
            # An example stands in a step once, also where an epoch ends within it: its seeds would repeat its rollouts.
            fresh = [example for example in dict.fromkeys(examples) if example not in drawn]
            drawn.update(fresh)
            waves.append(await self._wave(step, fresh, program))
            if sum(len(wave.by_signal(self.scorer.width)[0]) for wave in waves) >= self.config.examples:
                break
        return Sampled(waves, taken)

    def rows_from(self, step: int, sampled: Sampled, program: Program) -> StepRows:
        """Return the training rows of the update that follows `step`, from its rollouts by `program`, with health metrics.

        At most `examples` examples are used, those with signal first. Groups without signal give no rows, or with a `beta`
        above 0 or `normalise: all` rows whose `signal` is False. The steps must come in their order: `state` keeps running
        averages of rewards. Replies that `max_tokens` cuts are noted in the journal. Raises LmprogError where none of a
        server's replies can be trained.
        """
        waves = sampled.waves
        every = [rollout for wave in waves for rollout in wave.rollouts]
        wave = of_examples(waves, self.config.examples, self.scorer.width)
        fit, unmatched = self.policy.served.drop_untrainable(wave.rollouts, self.policy.lm_of)
        self.state.levels = seen(self.state.levels, every, self.scorer.width)
        groups, values = compare(
            [replace(rollout, invocations=self._of_trained(rollout.invocations)) for rollout in fit],
            self.config,
            sampled=wave.rollouts,
            averages=self.state.averages,
            levels=self.state.levels,
            agents=self.policy.agents,
            width=self.scorer.width,
        )
        self.state.averages = update_averages(self.state.averages, groups)
        rows = training_rows(
            groups,
            values,
            self.policy.constraint,
            self.policy.place_of.__getitem__,
            lambda made: made.logprobs,
            agents=self.policy.agents,
            is_skipped=is_cut if self.config.overlong == "mask" else lambda made: False,
            silent=self.config.beta > 0 or self.config.normalise == "all",
        )
        own = [rollout for rollout in every if rollout.teacher is None]
        cut = warn_of_cuts(own, self.policy.modules, self.policy.program.plan, self.task.journal.note)
        return StepRows(
            rows,
            {
                **health(waves, groups, values, rows, self.scorer.width),
                "taken": sampled.taken,
                "cut": cut,
                **({"unmatched": unmatched} if self.policy.served.adapters else {}),
                **self.prompts.health(step, program, own),
            },
        )

    async def _wave(self, step: int, examples: list[int], program: Program) -> Wave:
        seed = derive(self.task.seed, "wave", step)
        own = self._own(step, examples, seed, program)
        trained = partial(self.prompts.trained, step, program)
        return await self.teachers.join(own, examples, seed, trained, self.clock)

    async def _own(self, step: int, examples: list[int], seed: int, program: Program) -> Wave:
        """Return the scored runs of the program in training, with the rewards of failed runs set, and lowered for length
        with `overlong: penalty`."""
        wave = await collect(
            self.prompts.sampled(step, program),
            self.task.train,
            examples,
            self.scorer,
            rollouts=self.config.rollouts,
            params=self.params(),
            format_failure=self.scorer.of_failures,
            seed=seed,
            clock=self.clock,
        )
        rollouts = self.scorer.with_failures(wave.rollouts)
        if self.config.overlong == "penalty":
            limit = partial(longest, self.task.program.plan)
            rollouts = penalised(rollouts, self.policy.modules, limit, self.scorer.width)
        return replace(wave, rollouts=tuple(rollouts))

    def _of_trained(self, invocations: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the invocations of the modules in training that have token ids. A sub-program's module of the same name is
        another module."""
        return tuple(
            made
            for made in invocations
            if made.module in self.policy.modules and made.parent is None and made.token_ids
        )
