"""The options that the search combines: for each tuned module its instructions, demo sets and layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.evaluation import CandidateEvaluator
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.prompt_search.config import Sources
from lmprog.optimizers.strategies.demo_runs import KNN, NUMBERS, DemoRuns, joined
from lmprog.optimizers.strategies.demo_sources import Labelled, Pool, Solved, draw_set
from lmprog.optimizers.strategies.layouts import Prompt, layouts
from lmprog.optimizers.strategies.proposers import LMProposer, Proposer, SpecCandidates
from lmprog.optimizers.strategies.selectors import Picked
from lmprog.seeds import derive


@dataclass
class Choices:
    """The options to choose from for one module: instructions, demo sets, layouts.

    The first of each, None, keeps what the module has. `nearest` has, by the index of a demo set in `demos`, how many of its
    demos are shown: those nearest to a call's inputs; sets that are not in it are shown whole.
    """

    module: str
    instructions: list[str | None] = field(default_factory=lambda: [None])
    demos: list[Pool | None] = field(default_factory=lambda: [None])
    nearest: dict[int, int] = field(default_factory=dict)
    """Number of demos shown to a call, the nearest to its inputs, by the index of their pool in `demos`."""
    layouts: list[Prompt | None] = field(default_factory=lambda: [None])

    def options(self) -> dict[str, int]:
        """Return the number of options by name, `module/instructions`, `module/demos` and `module/layout`, for the kinds that
        have more than one."""
        counts = {"instructions": len(self.instructions), "demos": len(self.demos), "layout": len(self.layouts)}
        return {f"{self.module}/{kind}": count for kind, count in counts.items() if count > 1}


def combined(choices: Sequence[Choices], picked: Picked) -> Candidate:
    """Return the candidate with the picked options: `picked` has, by the names of `Choices.options`, the index of an option in
    `choices`.

    A kind without a pick, or with index 0, stays as it is.
    """
    words = {c.module: c.instructions[picked.get(f"{c.module}/instructions", 0)] for c in choices}
    demos = {c.module: c.demos[picked.get(f"{c.module}/demos", 0)] for c in choices}
    shown = {c.module: c.nearest.get(picked.get(f"{c.module}/demos", 0)) for c in choices}
    shapes = {c.module: c.layouts[picked.get(f"{c.module}/layout", 0)] for c in choices}
    return Candidate(
        {module: text for module, text in words.items() if text is not None},
        {module: [dict(demo) for demo in drawn] for module, drawn in demos.items() if drawn is not None},
        layouts={module: shape for module, shape in shapes.items() if shape is not None},
        nearest={module: count for module, count in shown.items() if count is not None},
    )


class Gatherer:
    """The gathering of the options of all tuned modules: first those without a proposer, then the instructions that `propose`
    adds.

    `demo_sets` is how many sets of demos are drawn for each module. `proposer` is None without `optimize.proposer`, and where
    the option `proposals` is 0; its LM calls are charged to the task's budget.
    """

    def __init__(self, task: Task, config: Sources, demo_sets: int) -> None:
        self.task, self.config, self.demo_sets = task, config, demo_sets
        plan = task.program.plan
        assert plan.optimize is not None
        self.plan, self.block = plan, plan.optimize
        self.proposer: Proposer | None = None
        if self.block.proposer is not None and config.proposals:
            declared = plan.lms[self.block.proposer]
            lm = task.budget.meter(task.program.lms[declared.id], declared)
            self.proposer = LMProposer(lm, declared.params, task.seed)

    async def first(self) -> list[Choices]:
        """Return for each tuned module the instructions that the spec lists, demo sets, and layouts, each where
        `optimize.tune` names that part of it. The program is run on `bootstrap_rows` train rows for demos; the demos
        are kept in the journal. Raises ProviderError where outages ended all these runs, MetricFailed where the metric
        raised in all, and BudgetExceeded."""
        tuned = self.block.tune
        given: Mapping[str, Pool] = {}
        solved: Mapping[str, Pool] = {}
        if any("demos" in parts for parts in tuned.values()):
            given = await Labelled().demos(self.task)
            if self.config.bootstrap_rows:
                runs = self.config if isinstance(self.config, DemoRuns) else None
                solved = await Solved(self.config.bootstrap_rows, runs).demos(self.task)
        found = []
        for id, parts in tuned.items():
            choices, module = Choices(id), self.plan.modules[id]
            if "instructions" in parts:
                choices.instructions += await SpecCandidates().propose(self.plan, module, self.task.train, 0)
            if "demos" in parts:
                pool = joined(given[id], solved.get(id, ()))
                if self.config.demos == KNN:
                    for count in dict.fromkeys(min(count, len(pool)) for count in NUMBERS if pool):
                        choices.nearest[len(choices.demos)] = count
                        choices.demos.append(pool)
                else:
                    choices.demos += self._demo_sets(id, pool)
            if "layout" in parts:
                choices.layouts += layouts(module)
            found.append(choices)
        return found

    def _demo_sets(self, id: str, pool: Pool) -> list[Pool]:
        """Return the different demo sets of a module that are drawn from `pool`; none from an empty one.

        Half of the sets have the most demos, which more often than not is best; the others take the counts of the option
        `demos` in turn, those that the pool has enough for.
        """
        assert not isinstance(self.config.demos, str)
        counts = [count for count in self.config.demos if count <= len(pool)] or [len(pool)]
        drawn = [
            draw_set(
                self.plan.modules[id],
                pool,
                counts[place // 2 % len(counts)] if place % 2 else max(counts),
                derive(self.task.seed, "demos", id, place),
            )
            for place in range(self.demo_sets if pool else 0)
        ]
        return list({repr(chosen): chosen for chosen in drawn}.values())

    async def propose(self, choices: Sequence[Choices], evaluator: CandidateEvaluator, count: int) -> None:
        """Add up to `count` instructions for each module whose instructions are tuned to `choices`, written by the
        proposer, which is shown the scores in `evaluator`; do nothing without a proposer. Proposals are recorded in the
        journal. Raises ProviderError where the proposer's LM fails, and BudgetExceeded.
        """
        for choice in choices:
            if self.proposer is None or "instructions" not in self.block.tune[choice.module]:
                continue
            module = self.plan.modules[choice.module]
            tried = [
                (text or module.instructions or "(none)", score)
                for text in choice.instructions
                if (score := evaluator.mean_with(choice.module, text)) is not None
            ]
            kept = await self.task.journal.once(
                f"instructions/{choice.module}/{len(choice.instructions)}",
                partial(self.proposer.propose, self.plan, module, self.task.train, count, tried),
            )
            choice.instructions += [text for text in kept if text not in choice.instructions]
