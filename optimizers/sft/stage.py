"""A run of the `sft` stage: a stage of weights whose rows are replies of good runs."""

from __future__ import annotations

from lmprog.optimizers.grpo.policy import Policy
from lmprog.optimizers.grpo.prompts import OwnPrompts
from lmprog.optimizers.grpo.stage import WeightStage
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.sft.config import Config
from lmprog.optimizers.sft.local_replies import Replies


def sft_stage(task: Task, options: Config) -> WeightStage:
    """Return a new run of an `sft` stage, with its `options`, for a task whose weights this process trains. Raises UsageError
    and LmprogError where they cannot be trained so."""
    policy = Policy(task.program, task.journal.folder, task.journal.note, full=options.full)
    return WeightStage("sft", task, policy, Replies(task, options, policy), OwnPrompts())
