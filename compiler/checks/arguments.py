"""Constant arguments of tools that break a bound or format of the tool, so that each call of them fails (604)."""

from __future__ import annotations

from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.compiled import EvaluationError
from lmprog.compiler.plan import Plan, ToolCall
from lmprog.compiler.steps.parts import walk
from lmprog.compiler.tools.kinds import kind_of
from lmprog.compiler.tools.schema_fit import broken
from lmprog.compiler.types.lattice import mismatch


def check(draft: Draft, plan: Plan) -> None:
    """Report arguments of steps that call a tool, made of the program's constants alone, that break the JSON schema of the
    parameter, such as `k: 0` of a search. The finding is LMP604."""
    for step in walk(plan.steps):
        tool = plan.tools.get(step.action.tool) if isinstance(step.action, ToolCall) else None
        node = draft.step_nodes[step.path].map("with")
        if tool is None or node is None or not isinstance(step.action, ToolCall):
            continue
        least = kind_of(tool.kind).least
        for name, argument in step.action.arguments.items():
            field = tool.parameters.get(name)
            if field is None or not (field.schema or name in least):
                continue
            if any(path[0] != "vars" for path in argument.references):
                continue
            try:
                value = argument.evaluate({"vars": plan.vars})
            except EvaluationError:
                continue
            if mismatch(value, field.type) is not None:
                continue  # which has its finding
            wrong = broken(value, field.schema) if field.schema else None
            if name in least and value < least[name]:
                wrong = f"it must be at least {least[name]}, not {value}"
            if wrong:
                message = f"argument `{name}` of tool `{tool.id}`: {wrong}, so that each call fails"
                place = node.entries[name].place if name in node.entries else node.place
                draft.report.add("LMP604", place, message, fix="write a value that the tool takes")
