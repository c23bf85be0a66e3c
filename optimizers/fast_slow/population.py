"""The prompts of a `fast_slow` stage: the population of the last round, over which the rollouts of an example are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.fast_slow.config import Config
from lmprog.optimizers.fast_slow.rounds import Rounds
from lmprog.optimizers.fast_slow.spread import Spread
from lmprog.optimizers.grpo.sampling.rollouts import Rollout
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.optimizer import Task
from lmprog.runtime.program import Program
from lmprog.seeds import derive


class Population:
    """The prompts of a `fast_slow` training: by training step the candidates (words) that rollouts are spread over; a resumed
    run reads them from the journal. `clock` measures the time of prompt rounds.
    """

    def __init__(self, task: Task, config: Config, clock: Stopwatch) -> None:
        self.rounds = Rounds(task, config)
        # The updates on one wave share its prompts.
        self.every = -(-config.every // config.updates) * config.updates
        self._seed, self._clock = task.seed, clock
        self._members: tuple[tuple[int, Program] | None, list[Program]] = (None, [])

    async def prepare(self, step: int, program: Program) -> None:
        """Search for better words after training step `step` (0: before the first), if a prompt round is due then: every
        `every` steps. `program` has the weights after that step. Raises ProviderError where outages leave nothing to score,
        and BudgetExceeded.
        """
        if step % self.every == 0:
            with self._clock.part("prompts"):
                await self.rounds.hold(self._round(step), step, program)

    def sampled(self, step: int, program: Program) -> Spread:
        """Return the program that samples the rollouts after training step `step` (0: before the first): it spreads
        them over the population of the last prompt round that is due by then, by shifts that differ from step to
        step.

        Where `prepare` has not ended that round, the population is the words that the stage began with alone. `program`
        has the weights after `step`.
        """
        number = self._round(step)
        # The program is another one after each step whose weights are asked for on a server.
        made_of = self._members[0]
        if made_of is None or made_of[0] != number or made_of[1] is not program:
            members = [program.with_candidate(member) for member in self.rounds.kept(number)]
            self._members = ((number, program), members)
        return Spread.over(program, self._members[1], derive(self._seed, "spread", step))

    def trained(self, step: int, program: Program, example: int, rollout: int) -> Program:
        """Return the program of that member of the population which makes run number `rollout` on an example.

        Rollouts of a teacher, numbered after the program's own, are spread over the members too. The rollouts are those after
        training step `step`, `program` has the weights after it.
        """
        spread = self.sampled(step, program)
        return spread.members[spread.member(example, rollout)]

    def scored(self, step: int, program: Program) -> Program:
        """Return the program to score after `step`: with `words(step)`, the best member of the population that the
        update of this step was made with.
        """
        return program.with_candidate(self.words(step))

    def words(self, step: int) -> Candidate:
        """Return the best member of the last prompt round before training step `step`, as a change of words; a round
        that is held after this step is not meant.

        Before the first round it is empty: the words that the stage began with.
        """
        return self.rounds.kept(self._round(step - 1))[0]

    def health(self, step: int, program: Program, rollouts: Sequence[Rollout]) -> Mapping[str, Any]:
        """Return for the journal `{"prompts": {...}}`, by the digest of each candidate that made rollouts, their number
        (`rollouts`) and their mean reward (`reward`). `step` is the training step, `program` has the weights after
        it."""
        members, spread = self.rounds.kept(self._round(step)), self.sampled(step, program)
        rewards: dict[str, list[float]] = {}
        for rollout in rollouts:
            member = members[spread.member(rollout.example, rollout.rollout)]
            rewards.setdefault(member.digest, []).append(rollout.reward)
        return {
            "prompts": {digest: {"rollouts": len(found), "reward": fmean(found)} for digest, found in rewards.items()}
        }

    def _round(self, step: int) -> int:
        """Return the number, from 0, of the last prompt round before the wave after `step`; -1 for a step below 0."""
        return step // self.every
