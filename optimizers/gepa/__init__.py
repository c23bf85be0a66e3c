"""`gepa`: instructions by reflection on traces and feedback, over a Pareto front of dev rows (arXiv 2507.19457).

The gepa library searches; its runs of the program and requests to the proposer go through the journal, the budget and the
filters of lmprog. The result of the stage is the candidate of its front with the highest mean on dev rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lmprog.optimizers import call_counts, run_counts
from lmprog.optimizers.gepa.config import Config as Options

if TYPE_CHECKING:
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.optimizer import Task
    from lmprog.runtime.program import Program


class GEPA:
    """The optimizer `gepa`, made with its `Config`: it tunes `instructions` of the modules that `optimize.tune` names,
    and needs `optimize.proposer`."""

    name: ClassVar[str] = "gepa"
    Config: ClassVar[type[Options]] = Options
    packages: ClassVar[tuple[str, ...]] = ("gepa",)
    tunes = frozenset({"instructions"})
    needs_proposer = True
    runs = staticmethod(run_counts.gepa)
    lm_calls = staticmethod(call_counts.gepa)

    def __init__(self, config: Options) -> None:
        self.config = config

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        return self.lm_calls(program.plan, self.config.model_dump(), train, dev)

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        return call_counts.reflections(self.config.model_dump(), train)

    def optimize(self, task: Task) -> Candidate:
        from lmprog.optimizers.gepa.stage import Reflection

        return Reflection(task, self.config).run()
