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
        """Return the most LM calls of the stage with `train` train rows and `dev` choosing dev rows, those of judges and the
        proposer included."""
        return self.lm_calls(program.plan, self.config.model_dump(), train, dev)

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        """Return the most calls of the proposer with `train` train rows: one after each minibatch of runs."""
        return call_counts.reflections(self.config.model_dump(), train)

    def optimize(self, task: Task) -> Candidate:
        """Return the instructions with the best mean score on the choosing dev rows, as a change to the program; START,
        no change, where none beats the program as it is. Raises UsageError without a proposer, without instructions to
        tune, and for options by which the search cannot begin, and what `Reflection.run` raises."""
        from lmprog.optimizers.gepa.stage import Reflection

        return Reflection(task, self.config).run()
