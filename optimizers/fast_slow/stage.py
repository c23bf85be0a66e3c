"""A run of the `fast_slow` stage: a `grpo` stage with a population of prompts in place of the program's one."""

from __future__ import annotations

from lmprog.optimizers.fast_slow.config import Config
from lmprog.optimizers.fast_slow.population import Population
from lmprog.optimizers.grpo.policy import Policy
from lmprog.optimizers.grpo.sampler import Sampler
from lmprog.optimizers.grpo.stage import WeightStage
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.optimizer import Task


def fast_slow_stage(task: Task, config: Config) -> WeightStage:
    """Return a new run of a `fast_slow` stage for a task.

    The best step is chosen on all choosing dev rows, with the best member of the population at that step.
    """
    clock = Stopwatch()
    policy, prompts = (
        Policy(task.program, task.journal.folder, task.journal.note, full=config.full),
        Population(task, config, clock),
    )
    return WeightStage("fast_slow", task, policy, Sampler(task, config, policy, prompts, clock), prompts)
