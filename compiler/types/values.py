"""Conversion of values in a spec (`with`, `when`, `outputs`, ...) to typed expressions, with findings."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from typing import Any

from lmprog.compiler.expressions.compiled import EvaluationError, Expression, literal, parsed
from lmprog.compiler.expressions.parser import ROOTS, ExpressionError, length_of, offset_of, parse
from lmprog.compiler.expressions.trial import failure
from lmprog.compiler.expressions.types import Typer
from lmprog.compiler.findings.finding import Report, Severity, nearest
from lmprog.compiler.shape import WRAPPED
from lmprog.compiler.steps.scope import Scope
from lmprog.compiler.types.lattice import (
    BOOL,
    JSON,
    UNKNOWN,
    ListOf,
    Object,
    Optional,
    Type,
    assignable,
    join,
    mismatch,
    type_of,
    without_none,
)
from lmprog.compiler.yaml.source import Mapping, Node, Place, Scalar, Sequence

_DOTTED = re.compile(r"\b([A-Za-z_][A-Za-z0-9_]*)((?:\.[A-Za-z_][A-Za-z0-9_]*)+)")

_DECLARED = re.compile(r"(?:inputs|steps\.\w+)\.(?!value$)(\w+)")
"""The name of an input or of an output of a step, whose type is declared elsewhere."""
_STEP = re.compile(r"steps\.\w+")
_MARKS = re.compile(r"\{\{(.*?)\}\}|\{%.*?%\}", re.DOTALL)
_HOLE = re.compile(r"\$\{\{(.*?)\}\}")
ANY_JOINED = '${{ join(["...", inputs.x], "") }}'
"""An example of an expression that joins texts and values."""


def seeming_reads(text: str) -> set[tuple[str, ...]]:
    """Return the paths of names, as `("steps", "one", "label")`, that a text seems to read which is an invalid or misplaced
    expression, so that they are not reported as unread. A misspelt root counts as the nearest one.
    """
    roots = {root: root if root in ROOTS else nearest(root, ROOTS) for root, _ in _DOTTED.findall(text)}
    return {(known, *rest[1:].split(".")) for root, rest in _DOTTED.findall(text) if (known := roots[root])}


@dataclass
class Binder:
    """The maker of typed expressions from nodes, in the scope of their place; mistakes become findings of `report`. `vars`
    are the program's constants."""

    report: Report
    vars: Map[str, Any] = field(default_factory=dict)
    reads: set[tuple[str, ...]] = field(default_factory=set)
    """Every dotted name that any expression of the program reads."""

    def bare(self, node: Node | None, scope: Scope, what: str) -> Expression | None:
        """Return the expression in a node whose text is one, with or without `${{ }}` around it; a number, boolean or null
        is a constant. None for None (an absent node) and, with a finding, for a node that is no expression.

        `scope` has the names that may be read there; one that reads others has a finding and is returned. `what` names the
        place in messages.
        """
        if not isinstance(node, Scalar):
            if node is not None:
                self.report.add("LMP101", node.place, f"{what} must be one expression")
            return None
        if not isinstance(node.value, str):
            return literal(node.value, place=node.where)
        wrapped = WRAPPED.match(node.value)
        start = wrapped.start(1) if wrapped else 0
        return self._parsed(wrapped[1] if wrapped else node.value, start, node, scope, what)

    def written(self, node: Node, scope: Scope, what: str) -> Expression | None:
        """Return the Expression for a node: a plain value, `${{ expr }}`, or a list or mapping of them. None, with a
        finding, where it or a part of it cannot be read, as where a text mixes words and `${{ }}`.

        A text without `${{` is a constant, with a warning where it looks like a name or a template. `scope` has the names
        that may be read there; `what` names the place in messages.
        """
        if isinstance(node, Scalar):
            if not isinstance(node.value, str) or "${{" not in node.value:
                self._meant(node, scope, what)
                self._marks(node, what)
                return literal(node.value, place=node.where)
            wrapped = WRAPPED.match(node.value)
            if wrapped is None or "${{" in wrapped[1]:
                self.report.add(
                    "LMP101",
                    node.at(node.value.index("${{"), 3),
                    f"{what} mixes text and `${{{{ }}}}`: an expression is a whole value, never a hole in a text",
                    fix=f"write one expression: {_joined(node.value)}",
                )
                self.reads |= seeming_reads(node.value)
                return None
            return self._parsed(wrapped[1], wrapped.start(1), node, scope, what)
        return self._nested(node, scope, what)

    def _meant(self, node: Scalar, scope: Scope, what: str) -> None:
        """Warn of a text that is the name of something that could be read there: it is taken as text."""
        if not isinstance(node.value, str) or not _DOTTED.fullmatch(node.value):
            return
        root, first, *_ = node.value.split(".")
        known = scope.roots.get(root)
        there = isinstance(known, Object) and known.get(first) is not None
        if there or (root == "steps" and scope.steps is not None and scope.steps.has(first)):
            message = f"{what} is the text `{node.value}`, not what that name stands for"
            fix = f"write ${{{{ {node.value} }}}}"
            self.report.add("LMP203", node.place, message, severity="warning", fix=fix)
            self.reads |= seeming_reads(node.value)

    def _marks(self, node: Scalar, what: str) -> None:
        """Warn of a text with the marks of a template: only `prompt` is one."""
        found = _MARKS.search(node.value) if isinstance(node.value, str) else None
        if found is None:
            return
        inner = (found[1] or "").strip()
        whole = found[0] == node.value.strip() and _DOTTED.fullmatch(inner)
        fix = f"write ${{{{ {inner} }}}}" if whole else f"write one expression: {ANY_JOINED}"
        message = f"{what} holds template marks, which are sent as they are: only `prompt` is a template"
        self.report.add("LMP803", node.at(found.start(), len(found[0])), message, fix=fix)
        self.reads |= seeming_reads(inner)

    def _nested(self, node: Node, scope: Scope, what: str) -> Expression | None:
        if not _holds_expression(node):
            for entry in node.items if isinstance(node, Sequence) else ():
                if isinstance(entry, Scalar):
                    self._meant(entry, scope, what)
            for entry in scalars(node):
                self._marks(entry, what)
            return literal(node.plain(), place=node.where)
        if isinstance(node, Sequence):
            items = [self.written(item, scope, what) for item in node.items]
            if any(item is None for item in items):
                return None
            kind: Type = UNKNOWN
            for item in items:
                assert item is not None
                joined = item.type if kind == UNKNOWN else join(kind, item.type)
                if joined is None:
                    kind = UNKNOWN
                    break
                kind = joined
            return literal(items, ListOf(kind), str(node.place))
        assert isinstance(node, Mapping)
        fields = {key: self.written(value, scope, what) for key, value in node.entries.items()}
        if any(value is None for value in fields.values()):
            return None
        kinds = tuple((key, value.type) for key, value in fields.items() if value is not None)
        return literal(fields, Object(kinds), str(node.place))

    def _parsed(self, text: str, start: int, node: Scalar, scope: Scope, what: str) -> Expression | None:
        stripped = text.strip()
        try:
            tree = parse(stripped)
        except ExpressionError as error:
            place = node.at(start + (len(text) - len(text.lstrip()) if stripped else 0) + error.offset)
            self.report.add(error.code, place, f"{what}: {error.message}", fix=error.fix)
            self.reads |= seeming_reads(text)
            return None
        typer = Typer(scope)
        kind = typer.type(tree)
        for problem in typer.problems:
            place = node.at(start + offset_of(text, problem.node), length_of(text, problem.node))
            self.report.add(problem.code, place, f"{what}: {problem.message}", fix=problem.fix)
        expression = parsed(stripped, kind, node.where)
        self.reads |= expression.references
        if typer.problems:
            self.reads |= seeming_reads(text)
            return expression
        failed = failure(expression, scope, self.vars)
        if failed is not None:
            message, always = failed
            severity: Severity = "error" if always else "warning"
            place = node.at(start + offset_of(text, tree), length_of(text, tree))
            self.report.add("LMP208", place, f"{what}: {message}", severity=severity, fix=_fix(expression))
        return expression

    def fits(self, expression: Expression | None, wanted: Type, node: Node, what: str, code: str = "LMP203") -> bool:
        """Return whether an expression may be used as type `wanted`; add a finding where it may not: LMP204 if only
        null is in the way, else `code`. None (an expression that already has its finding) fits. `what` names the place
        in messages, and the finding stands at `node`."""
        if expression is None:
            return True
        problem = unfit(expression, wanted, self.vars)
        if problem is None:
            return True
        if isinstance(expression.type, Optional) and assignable(expression.type.inner, wanted):
            name = expression.text
            said = f"`{name}` is {expression.type}: it may be absent here"
            fix: str | None = (
                f"write default({name}, ...), guard the step with `when: {name} != null`, or give its step an `else`"
            )
            if expression.constant:
                said, fix = "null is none", f"write a value of type {wanted}"
            self.report.add("LMP204", value_place(node), f"{what} takes {wanted}, and {said}", fix=fix)
            return False
        fix = _conversion(expression, wanted)
        self.report.add(code, value_place(node), f"{what} takes {wanted}, {problem}", fix=fix)
        return False


def _fix(expression: Expression) -> str | None:
    """Return a fix for an expression that fails for some values; None for a constant."""
    if expression.constant:
        return None
    tree = expression.tree
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # type: ignore[arg-type]
    for name, instead in (("int", "int(x, 0)"), ("float", "float(x, 0.0)")):
        if name in called:
            return f"write {instead}, with what stands for a text that is no number"
    return "guard it: `... if ... else ...`, or `when:` of the step"


def unfit(expression: Expression, wanted: Type, vars: Map[str, Any]) -> str | None:
    """Return why an expression cannot be used as type `wanted`, as a clause that begins with `and`; None where it can.

    An expression over `vars` (the program's constants) alone is judged by its value; None where it has none, which has a
    finding of its own.
    """
    if assignable(expression.type, wanted):
        return None
    if all(name[0] == "vars" for name in expression.references) and expression.type != UNKNOWN:
        try:
            value = expression.evaluate({"vars": vars})
        except Exception:
            return None
        wrong = mismatch(value, wanted)
        return None if wrong is None else f"and {wrong}"
    return f"and `{expression.text}` is {expression.type}"


def _conversion(expression: Expression, wanted: Type) -> str | None:
    source, wanted = expression.type, without_none(wanted)
    if str(wanted) == "str" and str(source) in ("int", "float", "bool", "json"):
        return f"write ${{{{ str({expression.text}) }}}}"
    if wanted == BOOL and isinstance(source, ListOf):
        return f"write len({expression.text}) > 0"
    if str(wanted) == "str" and isinstance(source, ListOf):
        return f'write ${{{{ join({expression.text}, ", ") }}}}' if str(source.item) == "str" else None
    if isinstance(source, ListOf) and assignable(ListOf(without_none(source.item)), wanted):
        return f"write ${{{{ compact({expression.text}) }}}}"
    if source == JSON and isinstance(wanted, ListOf) and wanted.item == UNKNOWN:
        return "annotate the parameter as Any, which takes json"
    if isinstance(source, Object) and _STEP.fullmatch(expression.text):
        kinds = ((name, without_none(kind)) for name, kind in source.fields)
        fitting = [name for name, kind in kinds if kind != UNKNOWN and assignable(kind, wanted)]
        if len(fitting) == 1:
            return f"write ${{{{ {expression.text}.{fitting[0]} }}}}"
    if isinstance(wanted, ListOf) and assignable(source, wanted.item):
        one = f"${{{{ [{expression.text}] }}}}"
        declared = _DECLARED.fullmatch(expression.text)
        if declared is None or source == JSON:
            return f"write {one}"
        return f"write {wanted} as the type of `{declared[1]}` where that is declared, or {one} for a list of one"
    text = expression.text.strip("'\"")
    if expression.constant and text.partition(".")[0] in (
        "inputs",
        "steps",
        "state",
        "vars",
        "outputs",
        "row",
        "item",
        "trace",
        "runs",
    ):
        return f"write ${{{{ {text} }}}}"
    return None


def _holds_expression(node: Node) -> bool:
    if isinstance(node, Scalar):
        return isinstance(node.value, str) and "${{" in node.value
    children = node.items if isinstance(node, Sequence) else list(node.entries.values())  # type: ignore[attr-defined]
    return any(_holds_expression(child) for child in children)


def scalars(node: Node) -> Iterator[Scalar]:
    """Yield all scalar nodes in a node, at any depth, but not the keys of mappings; a scalar node yields itself."""
    if isinstance(node, Scalar):
        yield node
    else:
        for child in node.items if isinstance(node, Sequence) else node.entries.values():  # type: ignore[attr-defined]
            yield from scalars(child)


def value_place(node: Node) -> Place:
    """Return the place that carets mark for a value: the expression within `${{ }}`, or the whole node."""
    if isinstance(node, Scalar) and isinstance(node.value, str):
        wrapped = WRAPPED.match(node.value)
        if wrapped:
            inner = wrapped[1]
            lead = len(inner) - len(inner.lstrip())
            return node.at(wrapped.start(1) + lead, len(inner.strip()))
    return node.place


def constant_value(report: Report, node: Scalar, vars: Map[str, Any], what: str) -> Any:
    """Return the value of an expression over `vars` alone; None, with a finding, where it has none, and without a further
    one where its type is unknown. `what` names the place in messages."""
    kinds = Object(tuple((name, type_of(value)) for name, value in vars.items()))
    scope = Scope({"vars": kinds}, where=f"in {what}, which is fixed before anything runs")
    expression = Binder(report, vars).bare(node, scope, what)
    if expression is None or isinstance(expression.type, type(UNKNOWN)):
        return None
    try:
        return expression.evaluate({"vars": vars})
    except EvaluationError as error:
        report.add("LMP203", node.place, f"{what}: {error.__cause__}")
        return None


def _joined(text: str) -> str:
    """Return the expression that a text with `${{ }}` in it means, or the example ANY_JOINED where the text is longer than
    80 characters or a `${{` in it does not end."""
    parts = _HOLE.split(text)
    if len(text) > 80 or any("${{" in part for part in parts):
        return ANY_JOINED
    listed = [part.strip() if at % 2 else json.dumps(part, ensure_ascii=False) for at, part in enumerate(parts) if part]
    return f'${{{{ join([{", ".join(listed)}], "") }}}}'
