"""Where demos come from, and which sets of them are tried."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.compiler.plan import Module, ModuleCall, Plan
from lmprog.evaluation import RowScore
from lmprog.optimizers.candidate import Demo

Pool = Sequence[Demo]


def labelled(plan: Plan, module: Module, rows: Sequence[Mapping[str, Any]]) -> list[Demo]:
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
    """What the module did in the program's own runs that got the metric's best value."""
    return [
        {**invocation.inputs, **invocation.outputs}
        for scored in scores
        if scored.value is not None and scored.value >= best
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
