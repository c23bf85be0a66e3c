"""A run of the `fast_slow` stage: a `grpo` stage with a population of prompts in place of the program's one."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.fast_slow.config import Config
from lmprog.optimizers.fast_slow.rounds import Rounds
from lmprog.optimizers.fast_slow.spread import Spread
from lmprog.optimizers.grpo.math.training_rows import Row
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Wave
from lmprog.optimizers.grpo.stage import WeightStage
from lmprog.optimizers.optimizer import Task
from lmprog.runtime.program import Program
from lmprog.seeds import derive


class FastSlowStage(WeightStage):
    """The loop of `grpo` with rounds of prompts in between. The best step is chosen on all dev rows with the best population
    member at that step; on resume the population is read from the journal.
    """

    name = "fast_slow"

    def __init__(self, task: Task, config: Config) -> None:
        super().__init__(task, config)
        self.rounds = Rounds(task, config)
        # The updates on one wave share its prompts.
        self.every = -(-config.every // config.updates) * config.updates
        self._members: tuple[tuple[int, Program] | None, list[Program]] = (None, [])
        self._sampled: Sequence[Rollout] = ()

    def rows(self, step: int) -> list[Row]:
        self.show(step)
        if step % self.every == 0:
            with self.clock.part("prompts"):
                self.runner.run(self.rounds.hold(self._round(step), step, self.program))
        rows = super().rows(step)
        self.wave |= {"prompts": self._by_member(step)}
        return rows

    def sampled_program(self, step: int) -> Spread:
        """Return the program of the wave after `step`, which spreads its rollouts over the population."""
        number = self._round(step)
        # The program is another one after each step whose weights are asked for on a server.
        made_of = self._members[0]
        if made_of is None or made_of[0] != number or made_of[1] is not self.program:
            members = [self.program.with_candidate(member) for member in self.rounds.kept(number)]
            self._members = ((number, self.program), members)
        return Spread.over(self.program, self._members[1], derive(self.task.seed, "spread", step))

    def prompt_program(self, step: int, example: int, rollout: int) -> Program:
        """Return the program of a teacher's run; runs of teachers are spread over the population too."""
        spread = self.sampled_program(step)
        return spread.members[spread.member(example, rollout)]

    def scored_program(self, step: int) -> Program:
        """Return the program with the best member of the population that the update before was made with."""
        return self.program.with_candidate(self._best_member(step))

    def _waves(self, step: int) -> list[Wave]:
        waves = super()._waves(step)
        self._sampled = [rollout for wave in waves for rollout in wave.rollouts if rollout.teacher is None]
        return waves

    def _by_member(self, step: int) -> dict[str, dict[str, float]]:
        """Return the number of rollouts with the texts of each candidate, and their mean reward."""
        members, spread = self.rounds.kept(self._round(step)), self.sampled_program(step)
        rewards: dict[str, list[float]] = {}
        for rollout in self._sampled:
            member = members[spread.member(rollout.example, rollout.rollout)]
            rewards.setdefault(member.digest, []).append(rollout.reward)
        return {digest: {"rollouts": len(found), "reward": fmean(found)} for digest, found in rewards.items()}

    def _round(self, step: int) -> int:
        """Return the last round before the wave after `step`."""
        return step // self.every

    def _best_member(self, step: int) -> Candidate:
        """Return the best member of the last round before update number `step`.

        Before the first round it is the program that the stage began with.
        """
        return self.rounds.kept(self._round(step - 1))[0]

    def _chosen(self) -> Candidate:
        adapters = super()._chosen()
        if self.best is None or adapters == START:
            return START
        return self._best_member(self.best[0]).then(adapters)
