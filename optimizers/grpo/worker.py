"""The loop of a process beside the first: it joins each training, and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmprog.optimizers import processes
from lmprog.optimizers.grpo.train_request import TrainRequest
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.optimizer import Task
from lmprog.runtime.program import Program
from lmprog.spending.budget import Budget


@dataclass(frozen=True)
class Finished:
    """The message that ends the loop; `outcome` is the result of the first process."""

    outcome: Any


class NullJournal(Journal):
    """The journal of a stage in a process that writes none; it has a folder alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self, event: str, **values: Any) -> None:
        """Do nothing: the first process writes the journal."""

    def tell(self, event: str, **values: Any) -> None:
        """Do nothing: the first process writes the journal."""


def follow(program: Program) -> Any:
    """Join every training of the first process; return the result of the first process."""
    while not isinstance(message := processes.from_first(), Finished):
        # Anything else was meant for a training that has ended here already.
        if isinstance(message, TrainRequest):
            from lmprog.optimizers.grpo.stage import WeightStage  # needs the extras of training; the loop does not

            of_stage = replace(program, plan=message.plan, resources=replace(program.resources))
            task = Task(of_stage, (), (), message.metric, Budget({}), NullJournal(message.folder), message.seed)
            stage = WeightStage(task, message.config)
            stage.imitates = message.imitates
            stage.train(message.done)
    return message.outcome
