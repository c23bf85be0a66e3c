"""Where demos come from, and how a set of them is drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from lmprog.compiler.plan import Module, ModuleCall, Plan
from lmprog.evaluation import RowScore, aevaluate
from lmprog.metrics import Scorer
from lmprog.optimizers.candidate import Demo
from lmprog.optimizers.optimizer import Row, Task
from lmprog.program import RunOptions
from lmprog.seeds import derive

Pool = Sequence[Demo]


class DemoSource(Protocol):
    """Demos for each module of a program: values for all its inputs and outputs. A module it has none for may be left out."""

    async def demos(self, task: Task) -> Mapping[str, Pool]: ...


class Labelled:
    """Demos that stand in the train rows themselves."""

    async def demos(self, task: Task) -> Mapping[str, Pool]:
        plan = task.program.plan
        return {module.id: labelled(plan, module, task.train) for module in plan.modules.values()}


class Solved:
    """What modules did in the program's own runs on up to `rows` train rows that scored at least `at_least` (None: the best).

    Every call of a module in such a run is a demo of it, those in loops too. Kept in the journal.
    """

    def __init__(self, rows: int, at_least: float | None = None) -> None:
        self.rows, self.at_least = rows, at_least

    async def demos(self, task: Task) -> Mapping[str, Pool]:
        draw = random.Random(derive(task.seed, "bootstrap"))
        rows = draw.sample(list(task.train), min(self.rows, len(task.train)))

        async def work() -> dict[str, list[Demo]]:
            scores = await aevaluate(task.program, rows, task.metric, options=RunOptions(seed=task.seed))
            scores.checked()
            best = Scorer(task.program, task.metric).metric.range[1] if self.at_least is None else self.at_least
            modules = task.program.plan.modules.values()
            return {module.id: bootstrapped(module, scores.rows, best) for module in modules}

        kept: Mapping[str, Pool] = await task.journal.once("bootstrap", work)
        return kept


def labelled(plan: Plan, module: Module, rows: Sequence[Row]) -> list[Demo]:
    """Demos that stand in the data itself: rows with a column for every input and output of the module.

    Only for a module whose one call site takes the program's inputs as they are, so that a row's values are the module's.
    """
    calls = [
        step.action for step in plan.steps if isinstance(step.action, ModuleCall) and step.action.module == module.id
    ]
    direct = len(calls) == 1 and all(
        value.references == frozenset({("inputs", name)}) for name, value in calls[0].arguments.items()
    )
    if not direct:
        return []
    wanted = [*module.inputs, *module.outputs]
    return [{name: row[name] for name in wanted} for row in rows if all(row.get(name) is not None for name in wanted)]


def bootstrapped(module: Module, scores: Sequence[RowScore], best: float) -> list[Demo]:
    """What the module did in the program's own runs that scored at least `best`; a run that failed teaches nothing."""
    return [
        {**invocation.inputs, **invocation.outputs}
        for scored in scores
        if scored.value is not None and scored.kind is None and scored.value >= best
        for invocation in scored.result.trace
        if invocation.module == module.id and invocation.parent is None
        if invocation.outputs is not None and not invocation.attempt
    ]


def draw_set(module: Module, pool: Pool, count: int, seed: int) -> tuple[Demo, ...]:
    """`count` demos of the pool in a drawn order, spread evenly over the values of the module's last output.

    An output that hardly repeats (free text) has no values to be spread over: the draw is then uniform.
    """
    draw = random.Random(seed)
    shuffled = draw.sample(list(pool), len(pool))
    answer = list(module.outputs)[-1]
    by_value: dict[str, list[Demo]] = {}
    for demo in shuffled:
        by_value.setdefault(repr(demo.get(answer)), []).append(demo)
    chosen: list[Demo] = []
    while len(chosen) < min(count, len(pool)):
        for value in draw.sample(sorted(by_value), len(by_value)):
            if by_value[value] and len(chosen) < count:
                chosen.append(by_value[value].pop())
    draw.shuffle(chosen)
    return tuple(chosen)
