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
    """A description of how a template uses a value: the uses of the `fields` that it reads by name, that of each `item` in
    loops and lists (None: it takes no items), and how it prints and compares the value itself."""

    fields: dict[str, Use] = field(default_factory=dict)
    item: Use | None = None
    whole: bool = False
    """True: the value is printed or given to a filter as it is."""
    number: bool = False
    """True: the value is compared with an integer."""
    fraction: bool = False
    """True: the value is compared with a number that has a decimal point."""
    as_json: bool = False
    """True: the value is printed as JSON (`| tojson`)."""

    def of_item(self) -> Use:
        """Return the use of the value's items, which is added to this one, empty, where there is none yet."""
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
        self.fraction |= other.fraction
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
        """Return the simplest type that a value needs for this use; `str` where any type would do, and `json` where fields
        and items are read, or a name of a field is no identifier. `depth` is the level of nesting; beyond 10 it is `json`.
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
        if self.number or self.fraction:
            return FLOAT if self.fraction else INT
        return JSON if self.as_json and not self.whole else STR


def uses(text: str) -> dict[str, Use]:
    """Return how a Jinja template uses each variable that it does not set itself (printed, looped over, its
    attributes), by name; empty where it cannot be parsed, or is nested too deeply. The names of Jinja's own functions
    that it calls are among them.
    """
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
    """Return the type of a sample value; of a mapping with only the fields that `use` reads (None, or one that reads no
    field: with all), and `json` where the name of one is no identifier. None where the sample is None or an empty list.
    """
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
    """Return the type of a list by its items: one type for all, `float` for integers and floats, merged for objects, else
    `json`.
    """
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
    """Return an object type that fits each of some objects: a field that some lack, or that may be absent, is optional, one
    that is an int here and a float there is a float, and one of otherwise different types is `json`.
    """
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
    """Return the type of an input for a template's variable: the type that the file declares (`declared`, as the language
    writes it; None: nothing) if template and sample agree with it, else the type of the sample `value` (None: there is
    none), else the one that its use needs.
    """
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
    """A walk over the tree of a template that adds the uses of its variables to `found`; the mapping `names` of its methods
    has the uses of the names that the template sets itself, as in loops.
    """

    def __init__(self, found: dict[str, Use]) -> None:
        self.found = found

    def body(self, body: Iterable[nodes.Node], names: dict[str, Use]) -> None:
        """Note the uses in a list of statements, and add the names that they set to `names`."""
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
        """Give the name at `target` the use of its value in `names`; names of a tuple get uses of their own."""
        if isinstance(target, nodes.Name):
            names[target.name] = use
        elif isinstance(target, nodes.Tuple):
            for item in target.items:
                self.bind(item, Use(), names)

    def use(self, node: nodes.Node, names: dict[str, Use]) -> Use | None:
        """Return the use of the variable, or of the part of one, that an expression stands for; None for any other
        expression. The uses inside of it are noted.
        """
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
        """Note the uses in an expression whose value is needed; with `whole` the value itself is noted as used in whole
        (`Use.whole`), without it is only tested or given on.
        """
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
            values = [part.expr.value for part in node.ops if isinstance(part.expr, nodes.Const)]
            numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
            used = self.use(node.expr, names)
            if used is not None and not any(isinstance(part.expr, nodes.Name) for part in node.ops):
                used.number |= any(isinstance(value, int) for value in numbers)
                used.fraction |= any(isinstance(value, float) for value in numbers)
            self.rest([part.expr for part in node.ops], names)
        else:
            self.rest(node.iter_child_nodes(), names)

    def rest(self, parts: Iterable[nodes.Node], names: dict[str, Use]) -> None:
        """Note the uses in parts of an expression, none of which is printed as it is."""
        for part in parts:
            self.value(part, names, whole=False)
