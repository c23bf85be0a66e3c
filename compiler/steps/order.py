"""The edges between steps (which must end before another starts), and the order that follows from them."""

from __future__ import annotations

from dataclasses import replace

from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Step
from lmprog.compiler.steps.parts import expressions


def in_order(draft: Draft, steps: dict[str, Step]) -> tuple[Step, ...]:
    """Return the steps of one level, given by id in the file's order, each with its edges in `after`, ordered so that a
    step comes behind all that it reads or needs, and else as in the file.

    Circles are reported (LMP207); their steps, and those that wait for them, stand at the end in the file's order.
    """
    linked = {id: replace(step, after=_before(step, steps)) for id, step in steps.items()}
    waiting = {id: set(step.after) for id, step in linked.items()}
    readers: dict[str, list[str]] = {id: [] for id in linked}
    for id, step in linked.items():
        for earlier in step.after:
            readers[earlier].append(id)
    position = {id: index for index, id in enumerate(linked)}
    ready = [id for id in linked if not waiting[id]]
    ordered: list[Step] = []
    while ready:
        later: list[str] = []
        for id in ready:
            ordered.append(linked[id])
            for reader in readers[id]:
                waiting[reader].discard(id)
                if not waiting[reader]:
                    later.append(reader)
        ready = sorted(later, key=position.__getitem__)
    if len(ordered) < len(linked):
        placed = {step.id for step in ordered}
        rest = {id: step for id, step in linked.items() if id not in placed}
        _circle(draft, rest)
        ordered += rest.values()
    return tuple(ordered)


def _before(step: Step, steps: dict[str, Step]) -> frozenset[str]:
    """Return the ids of the steps of this level that a step reads, or names under `needs`."""
    read = {
        name[1]
        for expression in expressions(step)
        for name in expression.references
        if name[0] == "steps" and len(name) > 1
    }
    return frozenset(id for id in read | step.after if id in steps)


def _circle(draft: Draft, steps: dict[str, Step]) -> None:
    """Report at least one circle of the steps, each of which waits for another of them: edges are followed back from each
    step until one comes again."""
    done: set[str] = set()
    for start in steps:
        trail: list[str] = []
        id: str | None = start
        while id is not None and id not in trail and id not in done:
            trail.append(id)
            id = next((earlier for earlier in sorted(steps[id].after) if earlier in steps), None)
        if id is not None and id in trail:
            circle = trail[trail.index(id) :]
            first = min(circle, key=lambda name: list(steps).index(name))
            turn = circle.index(first)
            names = [*circle[turn:], *circle[:turn], first]
            draft.report.add(
                "LMP207",
                draft.step_keys[steps[first].path],
                "these steps wait for each other",
                path=tuple(names),
                fix="cut one of the references; a loop that carries a value is written with repeat and state",
            )
        done.update(trail)
