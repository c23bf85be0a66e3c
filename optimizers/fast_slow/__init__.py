"""`fast_slow`: weights are trained, and every few steps prompts are searched under them.

The source is "Learning, Fast and Slow" (arXiv 2605.12484), whose program is one prompt; here a candidate is the prompts of all
modules, and the groups are those of mmGRPO.

A population of candidates, each with the words of all tuned modules, is kept as a Pareto front over dev rows. The rollouts of
an example are spread over the population, and compared as one group whatever their prompts: so the advantage is normalised
once for each example. What comes out is the adapters and the words that were best on dev together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lmprog.optimizers import call_counts, run_counts
from lmprog.optimizers.fast_slow.config import Config as Options
from lmprog.optimizers.grpo import GRPO

if TYPE_CHECKING:
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.optimizer import Task
    from lmprog.runtime.program import Program


class FastSlow(GRPO):
    """The optimizer `fast_slow`, made with its `Config`: it trains the `weights` of modules, and between training steps
    searches for better words of the same or other modules."""

    name: ClassVar[str] = "fast_slow"
    Config: ClassVar[type[Options]] = Options
    tunes = frozenset({"weights", "instructions", "demos", "layout"})
    runs = staticmethod(run_counts.fast_slow)
    lm_calls = staticmethod(call_counts.fast_slow)
    config: Options

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        """Return the most calls of the proposer in all prompt rounds; 0 without a proposer."""
        return call_counts.rounds_searched(program.plan, self.config.model_dump())

    def optimize(self, task: Task) -> Candidate:
        """Train the weights, with prompt rounds between the steps; return the weights of the best step with the words
        that they were best with, or START, no change, where no step is better on the choosing dev rows. Raises what
        `WeightStage.run` raises, as `grpo` does."""
        from lmprog.optimizers.fast_slow.stage import fast_slow_stage

        return fast_slow_stage(task, self.config).run()
