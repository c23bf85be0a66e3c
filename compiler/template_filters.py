"""What the filters of a template make of a value."""

from __future__ import annotations

from typing import Any

from lmprog.compiler.types import (
    BOOL,
    FLOAT,
    INT,
    JSON,
    STR,
    UNKNOWN,
    ListOf,
    Object,
    Optional,
    Type,
    without_none,
)

_TEXT_FILTERS = frozenset({
    "tojson", "join", "lower", "upper", "title", "capitalize", "trim", "replace", "truncate", "indent", "wordwrap",
    "string", "escape", "e",
})  # fmt: skip
_NUMBER_FILTERS = {"length": INT, "count": INT, "wordcount": INT, "int": INT, "float": FLOAT, "round": FLOAT}
_SAME_FILTERS = frozenset({
    "sort", "unique", "reverse", "list", "select", "reject", "selectattr", "rejectattr",
})  # fmt: skip


def filtered(node: Any, kind: Type) -> Type:
    """The type of a filter's result for a value of type `kind`."""
    name: str = node.name
    if name in _TEXT_FILTERS:
        return STR
    if name in _NUMBER_FILTERS:
        return _NUMBER_FILTERS[name]
    if name in ("default", "d"):
        # Without its second argument, `default` stands in for what is undefined, and not for none.
        always = len(node.args) > 1 or any(keyword.key == "boolean" for keyword in node.kwargs)
        return without_none(kind) if always else kind
    if name in _SAME_FILTERS:
        return kind if isinstance(kind, ListOf) else ListOf(UNKNOWN)
    if name in ("first", "last", "min", "max"):
        return kind.item if isinstance(kind, ListOf) else (STR if kind == STR else UNKNOWN)
    if name in ("map", "batch", "slice", "groupby", "items", "dictsort"):
        return ListOf(UNKNOWN)
    return kind if name in ("sum", "abs") and not isinstance(kind, ListOf) else UNKNOWN


def prints_well(name: str, kind: Type) -> bool:
    """Whether a filter that makes text makes no Python of its value: a list of lists joined, a list in capitals."""
    if name not in _TEXT_FILTERS or name == "tojson":
        return True
    if name == "join":
        kind = kind.item if isinstance(kind, ListOf) else kind
    return not (isinstance(kind, ListOf | Object | Optional) or kind in (BOOL, JSON))
