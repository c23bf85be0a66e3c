"""`grpo`: module-level group-relative policy optimization (mmGRPO, arXiv 2508.04660) of the program's weights.

A wave runs the whole program several times on each of a few examples, scores every run, and compares the calls of each module
across the runs of an example; from it come one policy-gradient update of the LoRA adapters (with `updates` several, with
`full` of all weights). The weights with the highest mean on the choosing dev rows are what the stage comes to, or the program
as it was where none are better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lmprog.optimizers import call_counts, run_counts
from lmprog.optimizers.grpo.config import Config as Options

if TYPE_CHECKING:
    from lmprog.compiler.plan import Plan
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.optimizer import Task
    from lmprog.runtime.program import Program


class GRPO:
    """The optimizer `grpo`, made with its `Config`: it trains the LMs whose modules tune `weights` in `optimize.tune`, by
    LoRA adapters or with the option `full` all their weights."""

    name: ClassVar[str] = "grpo"
    Config: ClassVar[type[Options]] = Options
    packages: ClassVar[tuple[str, ...]] = ("torch", "peft", "trl", "accelerate")
    tunes = frozenset({"weights"})
    takes_teachers = True
    compares_runs = True
    runs = staticmethod(run_counts.grpo)
    lm_calls = staticmethod(call_counts.grpo)

    def __init__(self, config: Options) -> None:
        self.config = config

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        """Return the most LM calls of the stage with `train` train rows and `dev` choosing dev rows, those of judges and
        teachers included."""
        return self.lm_calls(program.plan, self.config.model_dump(), train, dev)

    def other_runs(self, program: Program) -> list[tuple[Plan, int]]:
        """Return the plans of the teachers, each with the largest number of its runs, in the order of the option
        `teachers`."""
        teachers = program.plan.optimize.teachers if program.plan.optimize is not None else {}
        drawn = run_counts.examples(self.config.model_dump())
        return [(teachers[each.program], drawn * each.rollouts) for each in self.config.teachers]

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        """Return 0, since the stage asks no proposer."""
        return 0

    def optimize(self, task: Task) -> Candidate:
        """Train the weights; return those of the best step as a change to the program, or START, no change, where no
        step is better on the choosing dev rows. Raises what `WeightStage.run` raises, and LmprogError where `report_to`
        names a tracker that is not there."""
        from lmprog.optimizers.grpo.stage import grpo_stage

        return grpo_stage(task, self.config).run()
