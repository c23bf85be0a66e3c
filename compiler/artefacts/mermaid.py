"""The graph of a program as Mermaid text: steps as nodes, what flows between them as edges."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lmprog.compiler.bounds import turns
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import ModuleCall, Plan, ProgramCall, Step, ToolCall
from lmprog.compiler.steps.parts import bound, ending, expressions, given, inner, updates


def mermaid(plan: Plan) -> str:
    """Return the plan as a Mermaid flowchart, with the same text for the same plan: inputs, steps and outputs, and edges
    for what is read.

    Loops are boxes around their steps, and a step with `when` is a hexagon; dotted edges are order without data. The steps
    of sub-programs are not shown.
    """
    lines = ["flowchart TD"]
    for name in plan.inputs:
        lines.append(f"  {_id('inputs', name)}([{_text(f'inputs.{name}')}])")
    _steps(plan, plan.steps, lines, "  ")
    for name in plan.outputs:
        lines.append(f"  {_id('outputs', name)}([{_text(f'outputs.{name}')}])")
    edges: list[str] = []
    _edges(plan.steps, {step.id: step for step in plan.steps}, edges)
    for name, expression in plan.outputs.items():
        _read(expression, {step.id: step for step in plan.steps}, _id("outputs", name), edges)
    lines += [f"  {edge}" for edge in dict.fromkeys(edges)]
    return "\n".join(lines) + "\n"


def _steps(plan: Plan, steps: Iterable[Step], lines: list[str], indent: str) -> None:
    for step in steps:
        if bound(step) is not None:
            most = turns(plan, step)
            often = f"at most {most} turns" if ending(step) is not None else f"{most} turns"
            lines.append(f"{indent}subgraph {_id(step.path)} [{_text(f'{step.id}: {often}')}]")
            _steps(plan, inner(step), lines, indent + "  ")
            lines.append(f"{indent}end")
        else:
            left, right = ("{{", "}}") if step.when is not None else ("[", "]")
            lines.append(f"{indent}{_id(step.path)}{left}{_text(_label(plan, step))}{right}")


def _label(plan: Plan, step: Step) -> str:
    action = step.action
    if isinstance(action, ModuleCall):
        module = plan.modules[action.module]
        what = f"{module.id} ({module.lm})"
    elif isinstance(action, ToolCall):
        what = f"tool {action.tool}"
    elif isinstance(action, ProgramCall):
        what = f"program {action.plan.name}"
    else:
        what = "value"
    parts = [f"{step.id}: {what}"]
    if step.foreach is not None:
        parts.append("for each item")
    if step.when is not None:
        parts.append(f"when {step.when.text}")
    return "<br/>".join(parts)


def _edges(steps: Iterable[Step], around: dict[str, Step], edges: list[str]) -> None:
    """Add the edges that lead to steps and the steps inside them; `around` has the steps that they can read, by id."""
    for step in steps:
        if bound(step) is not None:
            inside = around | {part.id: part for part in inner(step)}
            _edges(inner(step), inside, edges)
            for start in (*given(step).values(), step.when):
                _read(start, around, _id(step.path), edges)
            for name, update in updates(step).items():
                _read(update, inside, _id(step.path), edges, f"state.{name}")
        else:
            for expression in expressions(step):
                _read(expression, around, _id(step.path), edges)
        read = {name[1] for expression in expressions(step) for name in expression.references if len(name) > 1}
        for earlier in sorted(step.after - read):
            if earlier in around:
                edges.append(f"{_id(around[earlier].path)} -.-> {_id(step.path)}")


def _read(
    expression: Expression | None, around: dict[str, Step], reader: str, edges: list[str], label: str = ""
) -> None:
    """Add the edges from what an expression reads (None: nothing) to the node `reader`; `label` stands on those from steps
    in place of the field."""
    for name in sorted(expression.references) if expression is not None else ():
        if name[0] == "steps" and len(name) > 1 and name[1] in around:
            shown = label or ".".join(name[2:3])
            source = _id(around[name[1]].path)
            edges.append(f"{source} -->{'|' + _text(shown) + '|' if shown else ''} {reader}")
        elif name[0] == "inputs" and len(name) > 1:
            edges.append(f"{_id('inputs', name[1])} --> {reader}")


def _id(*parts: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "__", "__".join(parts)) + "_"


def _text(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace('"', "&quot;").replace("<br/>", "\n").replace("<", "&lt;")
    return '"' + escaped.replace("\n", "<br/>") + '"'
