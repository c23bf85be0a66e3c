"""The prompts that a policy is run with while its weights are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.grpo.sampling.rollouts import Rollout
from lmprog.runtime.program import Program


class Prompts(Protocol):
    """The interface of a choice of prompts during a training.

    The argument `program` of its methods is the program in training with the weights after `step`; the wave after `step`
    are the rollouts sampled for the next update.
    """

    async def prepare(self, step: int, program: Program) -> None:
        """Make the prompts of the wave after `step`, if they do not exist yet; called before the wave is sampled."""
        ...

    def sampled(self, step: int, program: Program) -> Program:
        """Return the program that samples the wave after `step`: `program`, which has the weights after `step`, with
        the prompts of the wave. It may be one that runs each rollout by a prompt of its own."""
        ...

    def trained(self, step: int, program: Program, example: int, rollout: int) -> Program:
        """Return the program whose prompts are trained with the replies of run number `rollout` on an example (its row's
        index), in the wave after `step`; `program` has the weights after `step`."""
        ...

    def scored(self, step: int, program: Program) -> Program:
        """Return the program to score on dev rows after `step`: `program`, which has the weights after `step`, with the
        prompts that go with them."""
        ...

    def words(self, step: int) -> Candidate:
        """Return the change of words that goes with the weights after `step`; empty where the prompts stay as they are."""
        ...

    def health(self, step: int, program: Program, rollouts: Sequence[Rollout]) -> Mapping[str, Any]:
        """Return metrics on the prompts by name for the journal, perhaps none; `rollouts` are the program's own in the wave
        after `step`, and `program` has the weights after `step`."""
        ...


class OwnPrompts:
    """The choice of the program's own prompts at every step, as in `grpo` and `sft`."""

    async def prepare(self, step: int, program: Program) -> None:
        """Do nothing, since the program's own prompts need no preparation."""

    def sampled(self, step: int, program: Program) -> Program:
        return program

    def trained(self, step: int, program: Program, example: int, rollout: int) -> Program:
        return program

    def scored(self, step: int, program: Program) -> Program:
        return program

    def words(self, step: int) -> Candidate:
        return START

    def health(self, step: int, program: Program, rollouts: Sequence[Rollout]) -> Mapping[str, Any]:
        return {}
