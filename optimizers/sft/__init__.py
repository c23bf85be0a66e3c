"""`sft`: supervised fine-tuning of the program's weights, on replies of runs that went well.

The program is run several times on train rows, and the best runs of each row are kept (best of n; RFT, arXiv 2308.01825);
runs of teachers and labelled rows may join them. Every kept reply is learnt as the reply to the prompt that the program sends,
by the mean negative log-likelihood of its tokens. The best adapter on dev rows is kept as in `grpo`, whose trainer this is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lmprog.optimizers import run_counts
from lmprog.optimizers.sft.config import Config as Options

if TYPE_CHECKING:
    from lmprog.compiler.plan import Plan
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.optimizer import Task
    from lmprog.runtime.program import Program


class SFT:
    """The optimizer `sft`: it trains LoRA weights of the LMs whose modules `optimize.tune` names, on good replies."""

    name: ClassVar[str] = "sft"
    packages: ClassVar[tuple[str, ...]] = ("torch", "peft", "trl", "accelerate")
    Config: ClassVar[type[Options]] = Options
    tunes = frozenset({"weights"})
    takes_teachers = True
    compares_runs = True
    runs = staticmethod(run_counts.sft)

    def __init__(self, config: Options) -> None:
        self.config = config

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        from lmprog.compiler.bounds import calls
        from lmprog.optimizers.grpo.credit import most_runs
        from lmprog.optimizers.strategies.teachers import calls_of_teachers

        runs = self.runs(self.config.model_dump(), train, dev) + most_runs(program, min(self.config.credit, dev))
        return runs * calls(program.plan) + calls_of_teachers(program, self.config.teachers, self.config.rows)

    def other_runs(self, program: Program) -> list[tuple[Plan, int]]:
        """Return the plans of the teachers, each with the most times it is run."""
        from lmprog.optimizers.strategies.teachers import runs_of_teachers

        return runs_of_teachers(program, self.config.teachers, self.config.rows)

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        return 0

    def optimize(self, task: Task) -> Candidate:
        from lmprog.optimizers.sft.stage import sft_stage

        return sft_stage(task, self.config).run()
