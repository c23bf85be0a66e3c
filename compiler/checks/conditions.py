"""A `when` that is always true or false, in every run or in a loop of one turn (206)."""

from __future__ import annotations

from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.compiled import EvaluationError, Expression
from lmprog.compiler.plan import Plan, Step
from lmprog.compiler.steps.parts import bound, inner, walk


def check(draft: Draft, plan: Plan) -> None:
    """Report each `when` of a step whose value is the same in all runs: a constant, or, in a loop of one turn, a condition
    over `loop` alone. The finding is LMP206."""
    for step in walk(plan.steps):
        _when(draft, step, {}, "")
        if _one_turn(plan, bound(step)):
            only: dict[str, object] = {"loop": {"index0": 0, "first": True, "last": True}}
            for part in inner(step):
                _when(draft, part, only, f" in the only turn of loop `{step.id}`")


def _one_turn(plan: Plan, most: Expression | None) -> bool:
    try:
        turns: object = most.evaluate({"vars": plan.vars}) if most is not None else None
    except EvaluationError:
        return False
    return turns == 1


def _when(draft: Draft, step: Step, known: dict[str, object], where: str) -> None:
    value = _value(step.when, known)
    if value is None or step.when is None:
        return
    node = draft.step_nodes[step.path]
    always = "true" if value else "false"
    message = f"`when` of step `{step.id}` is always {always}{where}"
    fix = "leave `when` out" if value else "the step never runs: remove it"
    draft.report.add("LMP206", node.entries["when"].place, message, fix=fix)


def _value(condition: Expression | None, known: dict[str, object]) -> bool | None:
    """Return the value of a condition over the roots in `known` alone; None where it reads others, and with `known` roots
    also where it reads none, which is reported without them."""
    if condition is None or any(name[0] not in known for name in condition.references):
        return None
    if known and not condition.references:
        return None
    try:
        value = condition.evaluate(known)
    except EvaluationError:
        return None
    return value if isinstance(value, bool) else None
