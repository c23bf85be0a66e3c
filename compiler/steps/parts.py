"""The parts of steps, for all passes over steps: the steps inside, the programs called, and the expressions by their role.

Passes that only need the parts name no kind of step, so that a new kind is added here and not in each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import Plan, ProgramCall, Repeat, Step, Value


def inner(step: Step) -> tuple[Step, ...]:
    """Return the steps inside a loop, each once; empty for other steps. Those of a sub-program do not count."""
    return step.action.steps if isinstance(step.action, Repeat) else ()


def below(step: Step) -> tuple[Step, ...]:
    """Return the steps that a step runs: those inside a loop, or those of the sub-program that it calls; empty for other
    steps."""
    return step.action.plan.steps if isinstance(step.action, ProgramCall) else inner(step)


def walk(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield each step and then the steps inside it, at every depth, but not those of sub-programs."""
    for step in steps:
        yield step
        yield from walk(inner(step))


def programs(steps: Iterable[Step]) -> Iterator[Plan]:
    """Yield the plans of the sub-programs that the steps, and the steps inside them, call: one that is called twice
    comes twice, and those that sub-programs call in turn are left out."""
    for step in walk(steps):
        if isinstance(step.action, ProgramCall):
            yield step.action.plan


def changed(step: Step, change: Callable[[Step], Step]) -> Step:
    """Return the step with `change` applied to each step inside it, of the first level alone; the step itself where there
    are none."""
    if not isinstance(step.action, Repeat):
        return step
    return replace(step, action=replace(step.action, steps=tuple(change(part) for part in step.action.steps)))


def bound(step: Step) -> Expression | None:
    """Return the expression for the most turns of a loop; None for other steps."""
    return step.action.at_most if isinstance(step.action, Repeat) else None


def ending(step: Step) -> Expression | None:
    """Return the condition that ends a loop early, tested after each turn; None where there is none."""
    return step.action.until if isinstance(step.action, Repeat) else None


def given(step: Step) -> Mapping[str, Expression]:
    """Return the expressions that a step's action reads when it begins, by name: the arguments of a call, `value`, or the
    start of a loop's state; empty for a step that could not be compiled."""
    action = step.action
    if isinstance(action, Value):
        return {"value": action.expression}
    # A step that could not be compiled has no action.
    return action.start if isinstance(action, Repeat) else action.arguments if action is not None else {}


def updates(step: Step) -> dict[str, Expression]:
    """Return the expressions that change a loop's state after each turn, by variable; empty for other steps. An
    expression may be the new value, or items that are added to a list."""
    action = step.action
    return {name: update.expression for name, update in action.next.items()} if isinstance(action, Repeat) else {}


def passed_on(step: Step, output: str) -> list[Expression]:
    """Return the expressions whose values the output `output` of a step may have: that of a `value` step, or the start and
    the update of a loop's state.

    The list is empty where a module, tool or program makes the output, or the step has no such output. `else` and
    `on_error` are not looked at, and of an update that appends the expression is that of an item.
    """
    if not isinstance(step.action, Repeat | Value):
        return []
    found = (updates(step).get(output), given(step).get(output))
    return [expression for expression in found if expression is not None]


def expressions(step: Step) -> Iterator[Expression]:
    """Yield all expressions of a step (its bounds, arguments, conditions, `else` and `on_error`) and of the steps inside
    it, but not those of sub-programs."""
    for expression in (bound(step), ending(step)):
        if expression is not None:
            yield expression
    yield from given(step).values()
    for part in inner(step):
        yield from expressions(part)
    yield from updates(step).values()
    if step.when is not None:
        yield step.when
    yield from step.otherwise.values()
    if step.foreach is not None:
        yield step.foreach.items
    yield from (step.on_error or {}).values()
