"""What a process beside the first does: it joins each training, and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmprog.budget import Budget
from lmprog.compiler.plan import Plan
from lmprog.optimizers import processes
from lmprog.optimizers.grpo.checkpoints import Progress
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.journal import Journal
from lmprog.optimizers.optimizer import Task
from lmprog.program import Program


@dataclass(frozen=True)
class Joining:
    """What the first process tells of a training that it is about to begin."""

    plan: Plan
    """Of the program as the stage got it."""
    config: Config
    imitates: bool
    metric: str
    seed: int
    folder: Path
    done: Progress | None
    """The step that it goes on from."""


@dataclass(frozen=True)
class Over:
    """The first process is done; `outcome` is what it gives."""

    outcome: Any


class Unwritten(Journal):
    """The journal of a stage for a process that writes none: its folder alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self, event: str, **values: Any) -> None:
        """Nothing: the first process does it."""

    def tell(self, event: str, **values: Any) -> None:
        """Nothing: the first process does it."""


def follow(program: Program) -> Any:
    """Join every training of the first process; gives what it gives in the end."""
    from lmprog.optimizers.grpo.stage import WeightStage

    while not isinstance(told := processes.from_first(), Over):
        # Anything else was meant for a training that has ended here already.
        if isinstance(told, Joining):
            of_stage = replace(program, plan=told.plan, resources=replace(program.resources))
            task = Task(of_stage, (), (), told.metric, Budget({}), Unwritten(told.folder), told.seed)
            stage = WeightStage(task, told.config)
            stage.imitates = told.imitates
            stage.train(told.done)
    return told.outcome
