"""`ensemble`: a stage that joins the best programs of earlier stages into one, by a vote over their answers or by a judge.

The members differ in their words alone: the weights are those that the stages before came to. The result of the stage is an
overlay with `ensemble:`, which runs as any program does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lmprog.optimizers import call_counts, run_counts
from lmprog.optimizers.ensemble.config import Config as Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.optimizer import Task
    from lmprog.runtime.program import Program


class Ensemble:
    """The optimizer `ensemble`, made with its `Config`: it makes one program of several that earlier stages found, and is
    the last of the stages."""

    name: ClassVar[str] = "ensemble"
    Config: ClassVar[type[Options]] = Options
    tunes: ClassVar[frozenset[str]] = frozenset()
    runs = staticmethod(run_counts.ensemble)
    lm_calls = staticmethod(call_counts.ensemble)

    def __init__(self, config: Options) -> None:
        self.config = config

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        """Return the most LM calls of the stage with `dev` choosing dev rows, those of judges included; `train` does not
        count."""
        return self.lm_calls(program.plan, self.config.model_dump(), train, dev)

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        """Return 0, since the stage asks no proposer."""
        return 0

    def results(self, program: Program) -> list[Candidate]:
        """Return the ensembles that the stage tries, the largest last, for the forecast of the cost; their members are
        placeholders.
        """
        return [self.of(program, [{}] * size) for size in run_counts.ensemble_sizes(self.config.members)]

    def of(self, program: Program, members: Sequence[Mapping[str, Any]]) -> Candidate:
        """Return the candidate for an ensemble whose answer is picked by the judge that the options name, else by a vote over
        the output that they name (left out: the first of the program); each member is a mapping with its settings by module
        (`instructions`, `demos`, `prompt`), for the modules that it changes."""
        from lmprog.optimizers.candidate import Candidate

        vote = self.config.vote or next(iter(program.plan.outputs))
        rule = {"judge": self.config.judge} if self.config.judge is not None else {"vote": vote}
        return Candidate(ensemble={**rule, "members": [dict(member) for member in members]})

    def optimize(self, task: Task) -> Candidate:
        """Return the best ensemble of programs that earlier stages have scored, as a change to the program; START, no
        change, where none beats the program that the stage begins with on the choosing dev rows. The task must have
        `finalists`. Raises what `Assembly.run` raises."""
        from lmprog.aio.loops import run_async
        from lmprog.optimizers.ensemble.stage import Assembly

        return run_async(Assembly(task, self.config, self.of).run)
