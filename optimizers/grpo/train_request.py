"""The message by which the first process has others join a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lmprog.compiler.plan import Plan
from lmprog.optimizers.grpo.checkpoints import Progress
from lmprog.optimizers.grpo.config import Config


@dataclass(frozen=True)
class TrainRequest:
    """The message by which the first process has the other processes join a training."""

    plan: Plan
    """The program as the stage got it."""
    config: Config
    imitates: bool
    seed: int
    folder: Path
    done: Progress | None
    """The step that it goes on from."""
