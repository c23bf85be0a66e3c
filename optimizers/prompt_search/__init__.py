"""`prompt_search`: a joint search over the instructions and demo sets of all tuned modules.

Candidates are proposed by optuna's TPE sampler and scored on one half of the dev rows; the finalists are scored again on
the other half, which no choice was made on. The best replaces the program it started from only if its paired gain on
those rows has an interval above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lmprog.optimizers.candidate import Candidate, Demo
from lmprog.optimizers.prompt_search.config import Config as Options

if TYPE_CHECKING:
    from lmprog.optimizers.optimizer import Task
    from lmprog.program import Program


@dataclass(frozen=True)
class Choices:
    """What the search may combine for one module; the first of each is what the module has now."""

    module: str
    instructions: Sequence[str | None]
    demos: Sequence[Sequence[Demo] | None]


class PromptSearch:
    """Tunes `instructions` and `demos` of the modules that `optimize.tune` names."""

    name: ClassVar[str] = "prompt_search"
    Config: ClassVar[type[Options]] = Options

    def __init__(self, config: Options) -> None:
        self.config = config

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        from lmprog.compiler.bounds import calls
        from lmprog.optimizers.strategies.row_samplers import sizes

        searched, held = sizes(dev)
        rows = min(self.config.bootstrap_rows, train) + (self.config.trials + 1) * searched
        rows += (self.config.finalists + 1) * held
        return rows * calls(program.plan) + self.most_proposals(program, train, dev)

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        return self.config.proposals * len(program.plan.modules) if _proposer(program) else 0

    def optimize(self, task: Task) -> Candidate:
        from lmprog.loops import run_async
        from lmprog.optimizers.prompt_search.search import Search

        return run_async(Search(task, self.config).run)


def _proposer(program: Program) -> Any:
    return program.plan.optimize.proposer if program.plan.optimize else None
