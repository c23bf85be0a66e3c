"""Guards in a template: the names and fields that are known to be present where a condition is true, or false."""

from __future__ import annotations

from jinja2 import nodes

from lmprog.compiler.templates.compiled import dotted_name
from lmprog.compiler.types.lattice import UNKNOWN, Optional, Type, without_none

Names = dict[str, Type]
"""The types of the names of a template and, by dotted name, of the fields that a guard has narrowed."""

_OF_VALUES = ("string", "number", "integer", "float", "mapping", "true")
"""Tests that nothing absent passes."""


def narrow(test: nodes.Node, truth: bool, names: Names) -> None:
    """Change `names` in place to the types that they have where the condition `test` is true (where it is false, if `truth`
    is False): a name or field that must be present there loses its `?`, and `x is defined` adds `x`.
    """
    if isinstance(test, nodes.Not):
        narrow(test.node, not truth, names)
    elif (isinstance(test, nodes.And) and truth) or (isinstance(test, nodes.Or) and not truth):
        narrow(test.left, truth, names)
        narrow(test.right, truth, names)
    elif isinstance(test, nodes.Test):
        name = dotted_name(test.node)
        if test.name in ("defined", "undefined"):
            if (test.name == "defined") is truth and isinstance(test.node, nodes.Name) and name not in names:
                names[name] = UNKNOWN
        elif (test.name == "none" and not truth) or (test.name in _OF_VALUES and truth):
            _is_there(name, names)
    elif isinstance(test, nodes.Name | nodes.Getattr | nodes.Getitem) and truth:
        _is_there(dotted_name(test), names)
    elif isinstance(test, nodes.Compare) and len(test.ops) == 1:
        _compared(test.expr, test.ops[0], truth, names)


def _compared(left: nodes.Expr, operand: nodes.Operand, truth: bool, names: Names) -> None:
    """Narrow a name or field that is compared with a constant, where it equals one that is not none, or does not equal
    none."""
    name, other = dotted_name(left), operand.expr
    if not name:
        name, other = dotted_name(operand.expr), left
    if isinstance(other, nodes.Const) and operand.op in ("eq", "ne"):
        equal = (operand.op == "eq") is truth
        if equal is not (other.value is None):
            _is_there(name, names)


def _is_there(name: str, names: Names) -> None:
    """Set the type of a name or field in `names` to one without `?`, where its type has one; an empty `name` changes
    nothing."""
    if not name:
        return
    kind = names.get(name)
    if kind is None:
        kind = _field(name, names)
    if isinstance(kind, Optional):
        names[name] = kind.inner


def _field(name: str, names: Names) -> Type | None:
    around, _, last = name.rpartition(".")
    if not around:
        return None
    kind = names.get(around) or _field(around, names)
    found = getattr(without_none(kind), "get", None) if kind is not None else None
    return found(last) if found is not None else None


def forget(name: str, names: Names) -> None:
    """Remove from `names` the types of the fields of a name that is assigned anew; the name itself stays."""
    for known in [known for known in names if known.startswith(f"{name}.")]:
        del names[known]
