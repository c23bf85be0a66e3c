"""The prompts that a policy is run with while its weights are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.grpo.sampling.rollouts import Rollout
from lmprog.runtime.program import Program


class Prompts(Protocol):
    """The choice of prompts. `program` is the policy's, on the weights after `step`."""

    async def prepare(self, step: int, program: Program) -> None:
        """Get the prompts of the wave after `step`, where they are not there yet."""
        ...

    def sampled(self, step: int, program: Program) -> Program:
        """Return the program that runs in the wave after `step`."""
        ...

    def trained(self, step: int, program: Program, example: int, rollout: int) -> Program:
        """Return the program whose prompts are trained by run number `rollout` on an example."""
        ...

    def scored(self, step: int, program: Program) -> Program:
        """Return the program that is scored on dev after `step`."""
        ...

    def words(self, step: int) -> Candidate:
        """Return the words that go with the weights after `step`, where these are chosen."""
        ...

    def health(self, step: int, program: Program, rollouts: Sequence[Rollout]) -> Mapping[str, Any]:
        """Return figures of the prompts for the journal; `rollouts` are the program's own in the wave after `step`."""
        ...


class OwnPrompts:
    """The prompts of the program itself, at every step."""

    async def prepare(self, step: int, program: Program) -> None:
        """Do nothing: the prompts are there."""

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
