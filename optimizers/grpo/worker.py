"""The work of a process beside the first (torchrun): it joins each training, and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmprog.optimizers import processes
from lmprog.optimizers.grpo.train_request import TrainRequest
from lmprog.runtime.program import Program


@dataclass(frozen=True)
class Finished:
    """The message that ends the other processes' work; `outcome` is the result of the first process."""

    outcome: Any


def follow(program: Program) -> Any:
    """Join every training that the first process begins, and return the result of the optimization that it sends at the
    end; called in the other processes. `program` is the one that this process has loaded. Raises InfrastructureError
    where an error has ended the first process."""
    while not isinstance(message := processes.from_first(), Finished):
        # Anything else was meant for a training that has ended here already.
        if isinstance(message, TrainRequest):
            from lmprog.optimizers.grpo.torch.training import join  # needs the extras of training; the loop does not

            join(program, message)
    return message.outcome
