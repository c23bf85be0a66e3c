"""`prompt_search`: a joint search over the instructions, demo sets and layouts of all tuned modules.

Combinations are proposed by optuna's TPE sampler and scored on a minibatch of the dev rows that choose; successive halving
brings the best of them to all these rows; the one with the highest mean is what the stage comes to, or the program as it
is where none is better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lmprog.optimizers import call_counts, run_counts
from lmprog.optimizers.prompt_search.config import Config as Options

if TYPE_CHECKING:
    from lmprog.compiler.plan import Plan
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.optimizer import Task
    from lmprog.runtime.program import Program


class PromptSearch:
    """The optimizer `prompt_search`, made with its `Config`: it tunes `instructions`, `demos` and `layout` of the
    modules that `optimize.tune` names."""

    name: ClassVar[str] = "prompt_search"
    Config: ClassVar[type[Options]] = Options
    packages: ClassVar[tuple[str, ...]] = ("optuna",)
    tunes = frozenset({"instructions", "demos", "layout"})
    takes_teachers = True
    runs = staticmethod(run_counts.prompt_search)
    lm_calls = staticmethod(call_counts.prompt_search)

    def __init__(self, config: Options) -> None:
        self.config = config

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        """Return the most LM calls of the stage with `train` train rows and `dev` choosing dev rows, those of judges,
        teachers and the proposer included."""
        return self.lm_calls(program.plan, self.config.model_dump(), train, dev)

    def other_runs(self, program: Program) -> list[tuple[Plan, int]]:
        """Return the plans of the teachers, each with the largest number of its runs, in the order of the option
        `teachers`; empty without teachers. Raises RowsError where the train rows cannot be read."""
        from lmprog.optimizers.strategies.teachers import runs_of_teachers

        return runs_of_teachers(program, self.config.teachers, self.config.bootstrap_rows)

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        """Return the most calls of the proposer; 0 without a proposer."""
        return call_counts.searched(program.plan, self.config.model_dump())

    def optimize(self, task: Task) -> Candidate:
        """Return the combination of instructions, demos and layouts with the best mean score on the choosing dev rows,
        as a change to the program; START, no change, where none beats the program as it is. Raises what `Search.run`
        raises."""
        from lmprog.aio.loops import run_async
        from lmprog.optimizers.prompt_search.search import Search

        return run_async(Search(task, self.config).run)
