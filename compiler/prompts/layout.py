"""Reading and checks of a module's `prompt:`, the templates of its author."""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence
from typing import Any

from jinja2 import nodes

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import Severity
from lmprog.compiler.plan import Field, Layout
from lmprog.compiler.templates.compiled import Template
from lmprog.compiler.templates.trial import trial
from lmprog.compiler.templates.types import TemplateTyper
from lmprog.compiler.types.lattice import STR, ListOf, Object, Type
from lmprog.compiler.yaml.source import Mapping, Scalar

RESERVED = frozenset({
    "instructions", "demos", "vars", "and", "or", "not", "if", "else", "in", "is", "true", "false", "none", "True", "False",
    "None",
})  # fmt: skip
"""Names with a meaning of their own in templates."""

_GUARD = "guard it with {% if %}, or take |default(...)"


def written(
    draft: Draft,
    id: str,
    node: Mapping,
    inputs: dict[str, Field],
    outputs: dict[str, Field],
    demos: Sequence[Map[str, Any]],
) -> Layout | None:
    """Return the layout that the author wrote in the `prompt` (the node `node`) of the module `id`; None where it has no
    user template.

    Its templates are checked against the module's inputs and, for the assistant's, outputs, and rendered with samples;
    mistakes become findings. A template that cannot be read becomes an empty one.
    """
    row = Object(tuple((name, field.type) for name, field in (*inputs.items(), *outputs.items())))
    names: dict[str, Type] = {name: field.type for name, field in inputs.items()}
    names |= {"instructions": STR, "demos": ListOf(row), "vars": draft.var_types}
    instructions = draft.node("modules", id, "instructions")
    words = instructions.value if isinstance(instructions, Scalar) else ""
    fixed = {"instructions": words or "", "demos": demos, "vars": draft.vars}
    templates: dict[str, Template] = {}
    for role in ("system", "user", "assistant"):
        entry = node.get(role)
        if isinstance(entry, Scalar):
            seen = names | {name: field.type for name, field in outputs.items()} if role == "assistant" else names
            templates[role] = _template(draft, id, role, entry, seen, fixed)
    if "user" not in templates:
        return None
    return Layout(
        templates.get("system"),
        templates["user"],
        templates.get("assistant"),
        demos_inline=any("demos" in template.variables for template in templates.values()),
    )


def _template(draft: Draft, id: str, role: str, node: Scalar, names: dict[str, Type], fixed: Map[str, Any]) -> Template:
    typer = TemplateTyper(node.value, names)
    typer.check()
    for problem in typer.problems:
        place = node.at(problem.offset, problem.length)
        what = f"the {role} template of module `{id}`"
        draft.report.add(problem.code, place, f"{what}: {problem.message}", fix=problem.fix)
        draft.unsure.add(id)
    if typer.tree is not None and not typer.problems and id not in draft.unsure:
        _try(draft, f"the {role} template of module `{id}`", node, typer.tree, names, fixed)
    if "vars" in typer.variables:
        draft.used |= {("vars", name) for name in draft.vars if name in node.value}
    text = node.value if typer.readable else ""
    return Template(text, frozenset(typer.variables), str(node.place))


def _try(
    draft: Draft, what: str, node: Scalar, tree: nodes.Template, names: dict[str, Type], fixed: Map[str, Any]
) -> None:
    """Render a template with samples of its inputs, and report (LMP208) where that fails: an error where it always does,
    else a warning. `fixed` has the values that are known, such as `vars`."""
    failed = trial(node.value, tree, names, fixed)
    if failed is not None:
        severity: Severity = "error" if failed.always else "warning"
        message = f"{what}: {failed.message}"
        draft.report.add("LMP208", node.at(failed.offset), message, severity=severity, fix=_GUARD)
