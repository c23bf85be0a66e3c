"""`bootstrap`: demos from the program's own solved runs, by random search over sets of them.

Every tuned module gets demos: what it did in runs that were right (each call in a loop is one), and rows that are labelled
for it. The number of demos, which they are, and their order are drawn anew for each candidate.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from lmprog.optimizers import call_counts, run_counts
from lmprog.optimizers.candidate import START, Candidate, Demo
from lmprog.optimizers.strategies.demo_runs import KNN, NUMBERS, DemoRuns, joined
from lmprog.optimizers.strategies.repeats import AtOnce, Repeats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmprog.compiler.plan import Module, Plan
    from lmprog.optimizers.optimizer import Task
    from lmprog.optimizers.strategies.demo_sources import Pool
    from lmprog.runtime.program import Program


class Config(DemoRuns):
    """The options of the `bootstrap` stage, as they stand in a spec, each with its description."""

    sets: int = Field(12, ge=1, description="sets of demos that are scored on dev rows")
    demos: Annotated[int, Field(ge=1)] | Literal["knn"] = Field(
        8, description="the most demos of a module; knn: each call is shown the demos that are nearest to its inputs"
    )
    labelled: int = Field(
        8, ge=0, description="how many of them may be labelled rows, where the data labels the module"
    )
    rows: int = Field(64, ge=1, description="train rows that runs are made on, to take demos from")
    finalists: int = Field(
        4, ge=1, description="sets that are run again, `repeats` times, where that is more than once"
    )
    repeats: Repeats = 1
    at_once: AtOnce = 1


Options = Config


class Bootstrap:
    """The optimizer `bootstrap`, made with its `Config`: it tunes `demos` of the modules that `optimize.tune` names,
    with calls that they made in good runs of the program and its teachers, and with labelled train rows."""

    name: ClassVar[str] = "bootstrap"
    Config: ClassVar[type[Options]] = Options
    tunes = frozenset({"demos"})
    takes_teachers = True
    runs = staticmethod(run_counts.bootstrap)
    lm_calls = staticmethod(call_counts.bootstrap)

    def __init__(self, config: Options) -> None:
        self.config = config

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        """Return the most LM calls of the stage with `train` train rows and `dev` choosing dev rows, those of judges and
        teachers included."""
        return self.lm_calls(program.plan, self.config.model_dump(), train, dev)

    def other_runs(self, program: Program) -> list[tuple[Plan, int]]:
        """Return the plans of the teachers, each with the largest number of its runs, in the order of the option
        `teachers`."""
        from lmprog.optimizers.strategies.teachers import runs_of_teachers

        return runs_of_teachers(program, self.config.teachers, self.config.rows)

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        """Return 0, since the stage asks no proposer."""
        return 0

    def optimize(self, task: Task) -> Candidate:
        """Return the demos with the best mean score on the choosing dev rows, as a change to the program; START, no
        change, where none beats the program as it is, or no run is solved and no row labelled. Raises ProviderError
        where outages left nothing to score, and BudgetExceeded where the budget ends before the program as it is was
        scored; where it ends later, the best so far is returned."""
        from lmprog.aio.loops import run_async

        return run_async(lambda: self._search(task))

    async def _search(self, task: Task) -> Candidate:
        from lmprog.errors import BudgetExceeded
        from lmprog.optimizers.evaluation import CandidateEvaluator
        from lmprog.optimizers.strategies.demo_sources import Labelled, Solved

        plan = task.program.plan
        assert plan.optimize is not None
        tuned = [plan.modules[id] for id, parts in plan.optimize.tune.items() if "demos" in parts]
        solved = await Solved(self.config.rows, self.config).demos(task)
        given = await Labelled().demos(task) if self.config.labelled else {}
        pools = [(module, solved.get(module.id, ()), given.get(module.id, ())) for module in tuned]
        for module, own, labelled in pools:
            task.journal.note(f"{module.id}: {len(own)} demos from runs, {len(labelled)} labelled")
        if not any(own or labelled for _, own, labelled in pools):
            task.journal.note("no run was solved and no row is labelled: bootstrap has no demos to try")
            return START
        evaluator = CandidateEvaluator(task, repeats=self.config.repeats, at_once=self.config.at_once)
        await evaluator.evaluate(START)
        evaluator.tell(START, self.config.sets)
        try:
            number = 0
            # Small pools may give the same set again, which is no candidate; but it must end.
            while evaluator.entered < self.config.sets and number < 8 * self.config.sets:
                count = min(self.config.at_once, self.config.sets - evaluator.entered)
                drawn = [self._candidate(pools, number + place, task.seed) for place in range(count)]
                number += count
                await evaluator.enter(drawn, None, self.config.sets)
            return await evaluator.select(self.config.finalists)
        except BudgetExceeded as error:
            task.journal.note(f"{error}; bootstrap ends with its best so far")
            return evaluator.best_so_far()

    def _candidate(self, pools: Sequence[tuple[Module, Pool, Pool]], number: int, seed: int) -> Candidate:
        """Return candidate number `number`, from 0: a set of demos drawn for each module that has any, or with `demos: knn`
        its whole pool, of which each call is shown 2, 4, 8 or 16, in turn by the number."""
        some = [(module, own, labelled) for module, own, labelled in pools if own or labelled]
        if self.config.demos != KNN:
            sets = {module.id: self._set(module, own, labelled, number, seed) for module, own, labelled in some}
            return Candidate(demos={id: [dict(demo) for demo in chosen] for id, chosen in sets.items()})
        whole = {module.id: joined(labelled, own) for module, own, labelled in some}
        shown = NUMBERS[number % len(NUMBERS)]
        return Candidate(
            demos={id: [dict(demo) for demo in pool] for id, pool in whole.items()},
            nearest={id: min(shown, len(pool)) for id, pool in whole.items()},
        )

    def _set(self, module: Module, own: Pool, labelled: Pool, number: int, seed: int) -> list[Demo]:
        """Draw at most `demos` demos, at most `labelled` of them labelled; set 0 has as many labelled ones as it can, set 1
        as few.

        The demos are in a drawn order. Every other set has the most demos, which more often than not is best.
        """
        from lmprog.optimizers.strategies.demo_sources import draw_set
        from lmprog.seeds import derive

        assert isinstance(self.config.demos, int)
        place = derive(seed, "set", module.id, number)
        draw = random.Random(place)
        count = self.config.demos if number < 2 or number % 2 else draw.randint(1, self.config.demos)
        most = min(count, self.config.labelled, len(labelled))
        least = min(max(0, count - len(own)), most)
        wanted = (most, least)[number] if number < 2 else draw.randint(least, most)
        rows = draw_set(module, labelled, wanted, derive(place, "labelled"))
        rest = [demo for demo in own if demo not in rows]
        chosen = [*rows, *draw_set(module, rest, count - wanted, derive(place, "own"))]
        draw.shuffle(chosen)
        return chosen


__all__ = ["Bootstrap", "Config"]
