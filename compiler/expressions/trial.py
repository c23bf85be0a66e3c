"""A trial of an expression with sample values: where it fails then, it would fail in some run."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lmprog.compiler.expressions.compiled import EvaluationError, Expression
from lmprog.compiler.expressions.parser import dotted, parse, references
from lmprog.compiler.findings.finding import shown_value
from lmprog.compiler.steps.scope import Scope
from lmprog.compiler.types.lattice import JSON, Object, Optional, Type
from lmprog.compiler.types.samples import combinations, samples

_PARTIAL_CALLS = frozenset({"int", "float", "len", "split", "min", "max", "round", "replace", "json", "most_common"})
"""The functions that have no result for some values of the types that they take."""
_LOOPS = [{"index0": 0, "first": True, "last": False}, {"index0": 1, "first": False, "last": True}]

Name = tuple[str, ...]


class _Anything(dict[str, Any]):
    """A sample of a JSON value: an object with a number in every field, since its type does not say which there are."""

    def __missing__(self, key: str) -> int:
        return 1


def failure(expression: Expression, scope: Scope, vars: Mapping[str, Any]) -> tuple[str, bool] | None:
    """Return why the expression has no value, as a sentence, and True where it reads `vars` alone and so never has one,
    False where it fails for some sample values of what it reads; None where it never fails, or cannot be tried.

    Samples are made from the types in `scope`, and only those for which the conditions around the expression (such as
    `when`) hold are tried. A literal, a name alone, and an expression whose guard could not be read are not tried.
    `vars` are the program's constants.
    """
    tree = expression.tree
    if tree is None or isinstance(tree, ast.Constant):
        return None
    if all(name[0] == "vars" for name in expression.references) and dotted(tree) is None:
        reason = _reason(expression, {"vars": vars})
        return (f"this cannot be evaluated: {reason}", True) if reason is not None else None
    if scope.lenient or not _partial(expression.text) or dotted(tree) is not None:
        return None
    types: dict[Name, Type | None] = {}
    for read in (expression, *scope.conditions):
        for name in read.references:
            place = _place(name)
            if name[0] != "vars" and place not in types:
                types[place] = _type(place, scope)
    choices = {}
    for place, kind in types.items():
        found = _LOOPS if place == ("loop",) else _runs(place, kind) if place[0] == "runs" else _samples(kind)
        if not found:
            return None
        choices[".".join(place)] = found
    return _tried(expression, scope, vars, choices)


def _tried(
    expression: Expression, scope: Scope, vars: Mapping[str, Any], choices: Mapping[str, list[Any]]
) -> tuple[str, bool] | None:
    """Return what `failure` does, with the first samples that fail; `choices` has the samples of each name, such as
    `inputs.x`."""
    first: dict[str, Any] | None = None
    for chosen in combinations(choices):
        values = _scope(chosen, vars)
        if not all(_holds(condition, values) for condition in scope.conditions):
            continue
        reason = _reason(expression, values)
        if reason is None:
            first = first if first is not None else chosen
            continue
        names = {".".join(_place(name)) for name in references(expression.tree)}  # type: ignore[arg-type]
        different = {name: value for name, value in chosen.items() if first is None or value != first[name]}
        shown = {name: value for name, value in different.items() if name in names} or different
        where = ", ".join(f"`{name}` is {shown_value(value)}" for name, value in shown.items())
        return f"this cannot be evaluated where {where}: {reason}", False
    return None


@lru_cache(maxsize=65536)
def _partial(text: str) -> bool:
    """Return whether the text of an expression contains an operation that has no result for some values."""
    # Such things have one of these characters; most expressions are names alone.
    return any(mark in text for mark in "[(/%") and any(_may_fail(node) for node in ast.walk(parse(text)))


def _may_fail(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return not isinstance(node.slice, ast.Constant) or not isinstance(node.slice.value, str)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Div | ast.FloorDiv | ast.Mod)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _PARTIAL_CALLS


def _place(name: Name) -> Name:
    """Return the part of a dotted name that is chosen as one: `inputs.x`, `steps.a.x`, `item`."""
    if name[0] in ("item", "loop"):
        return name[:1]
    return name[:3] if name[0] == "steps" else name[:2]


def _type(place: Name, scope: Scope) -> Type | None:
    """Return the type of a name as `_place` cuts it, or None where it does not exist."""
    root, *fields = place
    if root == "steps":
        kind = scope.steps.find(fields[0]) if scope.steps is not None and fields else None
        fields = fields[1:]
    else:
        kind = scope.roots.get(root)
    for name in fields:
        kind = kind.get(name) if isinstance(kind, Object) else None
    return kind


def _samples(kind: Type | None) -> list[Any]:
    """Return sample values of a type, empty for None; null is never one, since unguarded optional values have a finding
    of their own."""
    if isinstance(kind, Optional):
        kind = kind.inner
    if kind == JSON:
        return [_Anything(a=1)]
    return samples(kind) if kind is not None else []


def _runs(place: Name, kind: Type | None) -> list[Any]:
    """Return sample values of the part of `runs` named `place`, in which there is at least one run, the one that is
    scored."""
    if place == ("runs", "index0"):
        return [0]
    return [value for value in _samples(kind) if all(value.values() if isinstance(value, dict) else [value])]


def _scope(chosen: Mapping[str, Any], vars: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by root that an expression is evaluated with, from the samples chosen for dotted names."""
    values: dict[str, Any] = {"vars": vars, "steps": {}}
    for name, value in chosen.items():
        *around, last = name.split(".")
        inner = values
        for part in around:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return values


def _holds(condition: Expression, values: Mapping[str, Any]) -> bool:
    try:
        return bool(condition.evaluate(values))
    except EvaluationError:
        return False


def _reason(expression: Expression, values: Mapping[str, Any]) -> str | None:
    """Return why an expression has no value here, in at most 200 characters, or None where it has one."""
    try:
        expression.evaluate(values)
    except EvaluationError as error:
        return str(error.__cause__ or error)[:200]
    except (RecursionError, MemoryError):
        return None
    return None
