"""Types for the variables of a template, inferred from sample values and from how the template uses them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes

from lmprog.compiler.shape import IDENTIFIER
from lmprog.compiler.templates.compiled import STRING_METHODS
from lmprog.compiler.templates.safety import too_deep
from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    INT,
    JSON,
    STR,
    ListOf,
    Object,
    Optional,
    Primitive,
    Type,
    mismatch,
    without_none,
)
from lmprog.imports.values import fitted

_MAX_DEPTH = 10
_LISTS = ("join", "first", "last", "sum", "map", "sort", "unique", "batch", "selectattr", "rejectattr", "groupby")
_SIMPLE = {"str": STR, "int": INT, "float": FLOAT, "bool": BOOL}


@dataclass
class Use:
    """A description of how a template uses a value: the `fields` that it reads, the use of each `item` in loops (None:
    it is in no loop), and whether it prints the value (`whole`), compares it with a number (`number`), or prints it as
    JSON (`as_json`)."""

    fields: dict[str, Use] = field(default_factory=dict)
    item: Use | None = None
    whole: bool = False
    """True: the value is printed or given to a filter as it is."""
    number: bool = False
    """True: the value is compared with a number."""
    as_json: bool = False
    """True: the value is written as JSON."""

    def of_item(self) -> Use:
        """Return the use of the value's items in loops."""
        if self.item is None:
            self.item = Use()
        return self.item

    def merge(self, other: Use) -> None:
        """Add another use of the same value to this one."""
        for name, use in other.fields.items():
            self.fields.setdefault(name, Use()).merge(use)
        if other.item is not None:
            self.of_item().merge(other.item)
        self.whole |= other.whole
        self.number |= other.number
        self.as_json |= other.as_json

    @property
    def taken_apart(self) -> bool:
        """True if the template reads fields or items of the value."""
        return bool(self.fields) or self.item is not None

    @property
    def writes_json(self) -> bool:
        """True if the template prints the value, or a part of it, as JSON."""
        parts = [*self.fields.values(), *([self.item] if self.item is not None else [])]
        return self.as_json or any(part.writes_json for part in parts)

    def type(self, depth: int = 0) -> Type:
        """Return the simplest type that a value needs for this use; `str` where any type would do. `depth` is the level of
        nesting.
        """
        if (self.fields and self.item) or depth > _MAX_DEPTH:
            return JSON
        if self.item is not None:
            return ListOf(self.item.type(depth + 1))
        if self.fields:
            if not all(IDENTIFIER.match(name) for name in self.fields):
                return JSON
            kinds = {name: use.type(depth + 1) for name, use in self.fields.items()}
            return Object(tuple(kinds.items())) if set(kinds.values()) != {JSON} else JSON
        return INT if self.number else JSON if self.as_json and not self.whole else STR


def uses(text: str) -> dict[str, Use]:
    """Return how a template uses each of its variables (printed, looped over, its attributes), by name; empty where it
    cannot be parsed."""
    try:
        tree = Environment().parse(text)
    except (TemplateSyntaxError, RecursionError, ValueError):
        return {}
    if too_deep(tree):
        return {}
    found: dict[str, Use] = {}
    _Walk(found).body(tree.body, {})
    return found


def type_of(value: Any, use: Use | None = None) -> Type | None:
    """Return the type of a sample value, with only the fields that the template reads (`use` None: with all); None
    where the sample shows nothing."""
    if value is None or value == []:
        return None
    if isinstance(value, list | tuple):
        return _of_list(value, use)
    if isinstance(value, Mapping):
        wanted = list(use.fields) if use is not None and use.fields else list(value)
        if not wanted or not all(IDENTIFIER.match(str(name)) for name in wanted):
            return JSON
        kinds: list[tuple[str, Type]] = []
        for name in map(str, wanted):
            inner = use.fields.get(name) if use is not None else None
            kind = type_of(value.get(name), inner) or (inner.type() if inner is not None else STR)
            kinds.append((name, kind if value.get(name) is not None else Optional(kind)))
        return Object(tuple(kinds))
    for kind in (BOOL, INT, FLOAT, STR):
        if mismatch(value, kind) is None:
            return kind
    return JSON


def _of_list(values: Sequence[Any], use: Use | None) -> Type:
    inner = use.item if use is not None else None
    kinds = [type_of(value, inner) for value in values if value is not None]
    if all(isinstance(kind, Object) for kind in kinds) and kinds and len(kinds) == len(values):
        return ListOf(_merged([kind for kind in kinds if isinstance(kind, Object)]))
    found = set(kinds) - {None}
    if found == {INT, FLOAT}:
        return ListOf(FLOAT)
    kind = found.pop() if len(found) == 1 else JSON
    return ListOf(kind if kind is not None and len(kinds) == len(values) else JSON)


def _merged(kinds: Sequence[Object]) -> Type:
    """Return the type of all of some objects: a field that some lack is optional, one of two types is json."""
    names = list(dict.fromkeys(name for kind in kinds for name, _ in kind.fields))
    merged: list[tuple[str, Type]] = []
    for name in names:
        of = [kind.get(name) for kind in kinds]
        inner = {without_none(kind) for kind in of if kind is not None}
        one = inner.pop() if len(inner) == 1 else FLOAT if inner == {INT, FLOAT} else JSON
        absent = any(kind is None or isinstance(kind, Optional) for kind in of)
        merged.append((name, Optional(one) if absent else one))
    return Object(tuple(merged))


def chosen(declared: str | None, value: Any, use: Use) -> Type:
    """Return the type for a variable from what a file declares (None: nothing), its sample value (None: none), and its
    use, in that order."""
    if declared in ("messages", "image"):
        return Primitive(declared)
    simple = _SIMPLE.get(declared or "")
    if (
        simple is not None
        and not use.taken_apart
        and (value is None or mismatch(fitted(value, simple), simple) is None)
    ):
        return simple
    found = type_of(value, use)
    if found is not None and (simple is None or not (found == STR and use.fields)):
        return found
    wanted = use.type()
    if declared and declared.startswith("list[") and not isinstance(wanted, ListOf):
        return ListOf(JSON)
    if declared == "json" and not use.taken_apart:
        return JSON
    return wanted


class _Walk:
    """Follows the values of variables through a template."""

    def __init__(self, found: dict[str, Use]) -> None:
        self.found = found

    def body(self, body: Iterable[nodes.Node], names: dict[str, Use]) -> None:
        for node in body:
            if isinstance(node, nodes.For):
                items = self.use(node.iter, names)
                inner = dict(names) | {"loop": Use()}
                self.bind(node.target, items.of_item() if items is not None else Use(), inner)
                if node.test is not None:
                    self.value(node.test, inner)
                self.body(node.body, inner)
                self.body(node.else_, dict(names))
            elif isinstance(node, nodes.If):
                self.value(node.test, names, whole=False)
                for part in (node.body, node.elif_, node.else_):
                    self.body(part, names)
            elif isinstance(node, nodes.Assign):
                used = self.use(node.node, names)
                self.bind(node.target, used if used is not None else Use(), names)
            elif isinstance(node, nodes.AssignBlock):
                self.body(node.body, dict(names))
                self.bind(node.target, Use(), names)
            elif isinstance(node, nodes.Output):
                for printed in node.nodes:
                    self.value(printed, names)
            else:
                inner = dict(names)
                for child in node.iter_child_nodes():
                    self.body([child], inner) if isinstance(child, nodes.Stmt) else self.value(child, inner)

    def bind(self, target: nodes.Node, use: Use, names: dict[str, Use]) -> None:
        if isinstance(target, nodes.Name):
            names[target.name] = use
        elif isinstance(target, nodes.Tuple):
            for item in target.items:
                self.bind(item, Use(), names)

    def use(self, node: nodes.Node, names: dict[str, Use]) -> Use | None:
        """Return the use of what an expression stands for, where that is a variable or a part of one."""
        if isinstance(node, nodes.Name):
            return names[node.name] if node.name in names else self.found.setdefault(node.name, Use())
        if isinstance(node, nodes.Getattr) or (isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const)):
            name = node.attr if isinstance(node, nodes.Getattr) else node.arg.value  # type: ignore[attr-defined]
            around = self.use(node.node, names)
            if around is None:
                return None
            return around.fields.setdefault(name, Use()) if isinstance(name, str) else around.of_item()
        if isinstance(node, nodes.Filter) and node.node is not None:
            inner = self.use(node.node, names)
            self.rest([*node.args, *(pair.value for pair in node.kwargs)], names)
            if inner is not None and node.name in _LISTS:
                inner.of_item()
            return inner if node.name in ("default", "d", "list", "sort", "reverse", "unique") else None
        self.value(node, names)
        return None

    def value(self, node: nodes.Node, names: dict[str, Use], *, whole: bool = True) -> None:
        """Note the use of an expression as a value."""
        if isinstance(node, nodes.Call):
            called = node.node
            method = isinstance(called, nodes.Getattr) and called.attr in (*STRING_METHODS, "items", "keys", "values")
            if method:
                self.value(called.node, names)  # type: ignore[attr-defined]
            else:
                self.value(called, names)
            self.rest([*node.args, *(pair.value for pair in node.kwargs)], names)
        elif isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem | nodes.Filter):
            used = self.use(node, names)
            if isinstance(node, nodes.Filter) and used is None and node.node is not None:
                used = self.use(node.node, names)
            if used is not None and isinstance(node, nodes.Filter) and node.name == "tojson":
                used.as_json = True
            elif used is not None:
                used.whole |= whole
        elif isinstance(node, nodes.Compare):
            number = any(isinstance(part.expr, nodes.Const) and isinstance(part.expr.value, int) for part in node.ops)
            used = self.use(node.expr, names)
            if used is not None and number and not any(isinstance(part.expr, nodes.Name) for part in node.ops):
                used.number = not any(isinstance(getattr(part.expr, "value", None), bool) for part in node.ops)
            self.rest([part.expr for part in node.ops], names)
        else:
            self.rest(node.iter_child_nodes(), names)

    def rest(self, parts: Iterable[nodes.Node], names: dict[str, Use]) -> None:
        for part in parts:
            self.value(part, names, whole=False)
