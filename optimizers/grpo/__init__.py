"""`grpo`: module-level group-relative policy optimization (mmGRPO, arXiv 2508.04660) of the program's weights.

Each step runs the whole program several times on each of a few examples, on policy; scores every run; compares the calls
of each module across the runs of an example; and makes one policy-gradient update of a LoRA adapter. The best adapter on
dev rows is kept, and replaces what was there only if its paired gain on dev has an interval above 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lmprog.optimizers.grpo.config import Config as Options

if TYPE_CHECKING:
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.optimizer import Task
    from lmprog.program import Program


class GRPO:
    """Tunes the `weights` of the LM whose modules `optimize.tune` names."""

    name: ClassVar[str] = "grpo"
    Config: ClassVar[type[Options]] = Options

    def __init__(self, config: Options) -> None:
        self.config = config

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        from lmprog.compiler.bounds import calls

        scorings = 1 + -(-self.config.steps // self.config.evaluate_every)
        waves = self.config.resample_waves if self.config.no_signal == "resample" else 1
        drawn = -(-self.config.steps // self.config.updates)
        runs = drawn * waves * self.config.examples * self.config.rollouts + scorings * dev
        return runs * calls(program.plan)

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        return 0

    def optimize(self, task: Task) -> Candidate:
        from lmprog.optimizers.grpo.stage import WeightStage

        return WeightStage(task, self.config).run()
