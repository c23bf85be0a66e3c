"""Outputs of modules that are declassified (403): each must have a reason, and a metric that reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import Module, ModuleCall, Plan, ProgramCall, Step
from lmprog.compiler.steps.parts import passed_on, walk
from lmprog.compiler.yaml.source import Mapping, Place

Watched = set[tuple[int, str, str]]
"""Outputs of modules that a metric reads directly, or through expressions, loops and programs alone: Python's `id` of the
module's plan, the module, and the output."""


@dataclass(frozen=True, eq=False)
class Crossing:
    """A private value that arrives at the `module` of a sub-program or judge (`plan`); an output of the module that is
    declassified leaves it unmarked, so that a metric of the program `root` (or an output of it, if it is a judge) must
    read the output. `place` is where findings stand.
    """

    plan: Plan
    module: Module
    place: Place
    """The place where the program that is checked brings the value in."""
    root: Plan
    """The checked program, whose metrics must read the output, or the judge, whose own outputs must."""


def reasons(draft: Draft, plan: Plan) -> None:
    """Report each `declassify` of the program `plan` (not of those that it runs) that stands elsewhere than at the
    output of a module, where alone it has an effect, has no reason, or contradicts `private`. The finding is LMP403."""
    wrong = "only the output of a module can be declassified"
    for name, field in plan.inputs.items():
        if field.declassify is not None:
            draft.report.add("LMP403", draft.place("inputs", name), wrong)
    for id, module in plan.modules.items():
        for name, field in module.inputs.items():
            if field.declassify is not None:
                draft.report.add("LMP403", draft.place("modules", id, "inputs", name), wrong)
        for name, field in module.outputs.items():
            if field.declassify is None:
                continue
            what = f"the output `{name}` of module `{id}`"
            if not field.declassify.strip():
                fix = "write declassify: and why this is safe"
                draft.report.add("LMP403", _place(draft, id, name), f"{what} is declassified without a reason", fix=fix)
            elif field.private:
                fix = "leave one of the two out"
                draft.report.add(
                    "LMP403", _place(draft, id, name), f"{what} is private and declassified at once", fix=fix
                )


def check(draft: Draft, plan: Plan, crossings: Sequence[Crossing]) -> None:
    """Report declassified outputs of modules that no metric reads directly, so that no test shows that they reveal nothing:
    those of the program, and those of other programs at which private values arrive (`crossings`). The finding is LMP403.

    Nothing is reported where an error keeps it from being known what the metrics read.
    """
    if _names_lost(draft):
        return
    read = [
        plan.outputs[name[1]]
        for metric in plan.metrics.values()
        for expression in metric.expressions
        for name in expression.references
        if name[0] == "outputs" and len(name) > 1 and name[1] in plan.outputs
    ]
    watched = _watched(plan, read)
    fix = "make it an output of the program and give it to a metric that measures what leaks"
    for id, module in plan.modules.items():
        for name, field in module.outputs.items():
            if field.declassify and field.declassify.strip() and (_key(plan, id, name) not in watched):
                message = f"the output `{name}` of module `{id}` is declassified, and no metric reads it directly"
                draft.report.add("LMP403", _place(draft, id, name), message, fix=fix)
    for crossing in crossings:
        seen = watched if crossing.root is plan else _watched(crossing.root, crossing.root.outputs.values())
        for name, field in crossing.module.outputs.items():
            if field.declassify and _key(crossing.plan, crossing.module.id, name) not in seen:
                what = f"the output `{name}` of its module `{crossing.module.id}`"
                message = f"the program `{crossing.plan.name}` declassifies {what}, and no metric reads it directly"
                draft.report.add("LMP403", crossing.place, message, fix=fix)


def _key(plan: Plan, module: str, output: str) -> tuple[int, str, str]:
    return id(plan), module, output


def _names_lost(draft: Draft) -> bool:
    """Return whether the program has an error by which a reference may be lost, so that it is not known what the metrics
    read."""
    codes = {finding.code for finding in draft.report.findings.values() if finding.severity == "error"}
    return bool(codes & {"LMP101", "LMP103", "LMP201", "LMP203", "LMP603"})


def _place(draft: Draft, id: str, name: str) -> Place:
    node = draft.node("modules", id, "outputs", name)
    if isinstance(node, Mapping):
        return node.key_place("declassify")
    return draft.place("modules", id, "outputs", name)


def _watched(plan: Plan, read: Iterable[Expression]) -> Watched:
    """Return the outputs of modules on which the expressions `read` of a program depend without a module between them."""
    steps = _by_id(plan.steps)
    pending = list(read)
    seen: set[tuple[str, str]] = set()
    found: Watched = set()
    while pending:
        for name in pending.pop().references:
            if name[0] != "steps" or len(name) < 3 or (name[1], name[2]) in seen:
                continue
            seen.add((name[1], name[2]))
            for step in steps.get(name[1], ()):
                action = step.action
                if isinstance(action, ModuleCall):
                    found.add(_key(plan, action.module, name[2]))
                elif isinstance(action, ProgramCall):
                    outputs = action.plan.outputs
                    named = [*outputs] if action.answers else [name[2]]
                    found |= _watched(action.plan, [outputs[output] for output in named if output in outputs])
                else:
                    pending += passed_on(step, name[2])
    return found


def _by_id(steps: Iterable[Step]) -> dict[str, list[Step]]:
    """Return the steps by id, those in loops too; two loops may have a step of the same id."""
    found: dict[str, list[Step]] = {}
    for step in walk(steps):
        found.setdefault(step.id, []).append(step)
    return found
