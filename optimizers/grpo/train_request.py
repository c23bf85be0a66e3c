"""The message by which the first process has others join a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lmprog.compiler.plan import Plan
from lmprog.optimizers.grpo.checkpoints import Progress
from lmprog.optimizers.grpo.config import Config


@dataclass(frozen=True)
class TrainRequest:
    """The message by which the first process makes the other processes join a training: plan, options (`config`), seed,
    folder, and the state of the last whole checkpoint (`done`, None: the start).

    `imitates` is True for `sft`, False for `grpo`.
    """

    plan: Plan
    """The program as the stage got it."""
    config: Config
    imitates: bool
    seed: int
    folder: Path
    done: Progress | None
    """The state at the step that the training goes on from; None where it begins."""
