"""Which names a template reads, whether they are there, and whether each value prints as text for a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateSyntaxError, nodes

from lmprog.compiler.findings import suggestion
from lmprog.compiler.template_filters import filtered, prints_well
from lmprog.compiler.template_safety import CLOCKS, Problem, line_start, problem_at, too_deep, unsafe_parts
from lmprog.compiler.templates import STRING_METHODS, dotted_name, parse
from lmprog.compiler.types import (
    BOOL,
    FLOAT,
    INT,
    JSON,
    MESSAGES,
    STR,
    UNKNOWN,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
    Unknown,
    join,
    type_of,
    without_none,
)

Names = dict[str, Type]

_TEXT_METHODS = {
    "split": ListOf(STR),
    "rsplit": ListOf(STR),
    "splitlines": ListOf(STR),
    "count": INT,
    "find": INT,
}
_LOOP = Object(
    (
        *((name, INT) for name in ("index", "index0", "revindex", "revindex0", "length", "depth", "depth0")),
        *(("first", BOOL), ("last", BOOL), ("previtem", UNKNOWN), ("nextitem", UNKNOWN)),
    )
)


@dataclass(frozen=True)
class _Method(Type):
    name: str

    def __str__(self) -> str:
        return "method"


@dataclass
class TemplateTyper:
    """Walks one template with the types of the names that it is given."""

    text: str
    names: Mapping[str, Type]
    problems: list[Problem] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)
    maybe: set[str] = field(default_factory=set)
    """Names that are set on some ways through the template only."""
    readable: bool = True
    """Whether the text is a template at all."""
    seen: dict[tuple[int, str], int] = field(default_factory=dict)
    """How often a name was met in a line, since the nodes of a template have no columns."""

    def check(self) -> None:
        """Fill `problems` and `variables`."""
        try:
            tree = parse(self.text)
            if too_deep(tree):
                raise RecursionError
        except TemplateSyntaxError as error:
            offset = line_start(self.text, error.lineno)
            message, code = str(error.message), "LMP101"
            if "Unexpected" not in message and "unknown tag" in message:
                code = "LMP801"
            self.problems.append(Problem(code, f"the template cannot be read: {message}", offset))
            self.readable = False
            return
        except RecursionError:
            self.problems.append(Problem("LMP101", "the template is nested too deeply", 0))
            self.readable = False
            return
        self.problems += unsafe_parts(self.text, tree, self.names)
        self._body(tree.body, dict(self.names))

    def _say(self, code: str, node: nodes.Node, message: str, word: str = "", fix: str | None = None) -> None:
        skip = max(0, self.seen.get((node.lineno, word), 1) - 1)
        self.problems.append(problem_at(self.text, code, node, message, word, fix, skip))

    def _see(self, node: nodes.Name) -> None:
        self.seen[node.lineno, node.name] = self.seen.get((node.lineno, node.name), 0) + 1

    # statements

    def _body(self, body: Iterable[nodes.Node], names: Names) -> None:
        for node in body:
            if isinstance(node, nodes.Output):
                for part in node.nodes:
                    if not isinstance(part, nodes.TemplateData):
                        self._printed(part, self._type(part, names))
            elif isinstance(node, nodes.Assign):
                self._bind(node.target, self._type(node.node, names), names)
            elif isinstance(node, nodes.AssignBlock):
                self._body(node.body, dict(names))
                self._bind(node.target, STR, names)
            elif isinstance(node, nodes.If):
                self._if(node, names)
            elif isinstance(node, nodes.For):
                self._for(node, names)
            elif isinstance(node, nodes.With):
                inner = dict(names)
                for target, value in zip(node.targets, node.values, strict=True):
                    self._bind(target, self._type(value, names), inner)
                self._body(node.body, inner)
            elif isinstance(node, nodes.FilterBlock):
                self._body(node.body, dict(names))

    def _bind(self, target: nodes.Node, kind: Type, names: Names) -> None:
        if isinstance(target, nodes.Name):
            self._see(target)
            names[target.name] = kind
            self.maybe.discard(target.name)
        elif isinstance(target, nodes.Tuple):
            inner = kind.item if isinstance(kind, ListOf) else UNKNOWN
            for item in target.items:
                self._bind(item, inner, names)

    def _if(self, node: nodes.If, names: Names) -> None:
        branches: list[Names] = []
        rest = dict(names)
        tests: list[tuple[nodes.Node | None, list[nodes.Node]]] = [(node.test, node.body)]
        tests += [(other.test, other.body) for other in node.elif_]
        tests.append((None, node.else_))
        for test, body in tests:
            inner = dict(rest)
            if test is not None:
                self._type(test, inner)
                self._narrow(test, True, inner)
                self._narrow(test, False, rest)
            self._body(body, inner)
            branches.append(inner)
        for name in {name for branch in branches for name in branch}:
            if all(name in branch for branch in branches):
                if name not in names:
                    kind: Type | None = branches[0][name]
                    for branch in branches[1:]:
                        kind = join(kind, branch[name]) if kind is not None else None
                    names[name] = kind if kind is not None else UNKNOWN
            elif name not in names:
                self.maybe.add(name)

    def _for(self, node: nodes.For, names: Names) -> None:
        kind = self._type(node.iter, names)
        if isinstance(kind, Optional):
            self._say("LMP204", node, f"this loop runs over {kind}, which may be absent", dotted_name(node.iter))
            kind = kind.inner
        if kind in (INT, FLOAT, BOOL):
            self._say("LMP203", node, f"a loop cannot run over {kind}", dotted_name(node.iter))
        item: Type = kind.item if isinstance(kind, ListOf) else UNKNOWN
        if kind == STR or isinstance(kind, Enum | Object):
            item = STR
        inner = dict(names)
        self._bind(node.target, item, inner)
        inner["loop"] = _LOOP
        if node.test is not None:
            self._type(node.test, inner)
        self._body(node.body, inner)
        self._body(node.else_, dict(names))
        self.maybe |= inner.keys() - names.keys()

    def _narrow(self, test: nodes.Node, truth: bool, names: Names) -> None:
        if isinstance(test, nodes.Not):
            self._narrow(test.node, not truth, names)
        elif (isinstance(test, nodes.And) and truth) or (isinstance(test, nodes.Or) and not truth):
            self._narrow(test.left, truth, names)
            self._narrow(test.right, truth, names)
        elif isinstance(test, nodes.Test) and isinstance(test.node, nodes.Name):
            name = test.node.name
            if test.name in ("defined", "undefined"):
                if (test.name == "defined") is truth and name not in names:
                    names[name] = UNKNOWN
            elif test.name == "none" and not truth and name in names:
                names[name] = without_none(names[name])
        elif isinstance(test, nodes.Name) and truth and test.name in names:
            names[test.name] = without_none(names[test.name])
        elif isinstance(test, nodes.Compare) and len(test.ops) == 1 and isinstance(test.expr, nodes.Name):
            op, name = test.ops[0], test.expr.name
            null = isinstance(op.expr, nodes.Const) and op.expr.value is None
            if null and name in names and (op.op == "ne") is truth and op.op in ("ne", "eq"):
                names[name] = without_none(names[name])

    def _printed(self, node: nodes.Node, kind: Type) -> None:
        word = dotted_name(node)
        if isinstance(kind, _Method):
            fix = f"write {word}() or |{kind.name}" if kind.name in STRING_METHODS else "write |items"
            self._say("LMP205", node, f"`{word}` is a method, and would print as Python", word.split(".")[-1], fix)
        elif isinstance(kind, Optional):
            shown = f"`{word}`" if word else "this value"
            self._say(
                "LMP205",
                node,
                f"{shown} is {kind}, and would print as None where it is absent",
                word.split(".")[0],
                f"write {{% if {word} %}}...{{% endif %}} or |default('', true)" if word else None,
            )
        elif kind in (BOOL, JSON, MESSAGES) or isinstance(kind, ListOf | Object):
            fix = "write |tojson" + (' or |join(", ")' if isinstance(kind, ListOf) else "")
            shown = f"`{word}`" if word else "this value"
            self._say("LMP205", node, f"{shown} is {kind}, and would print as Python", word.split(".")[0], fix)

    # expressions

    def _type(self, node: nodes.Node, names: Names) -> Type:
        typing = _TYPINGS.get(type(node))
        if typing is not None:
            return typing(self, node, names)
        for child in node.iter_child_nodes():
            self._type(child, names)
        return UNKNOWN

    def _name(self, node: Any, names: Names) -> Type:
        name: str = node.name
        self._see(node)
        if name in self.names:
            self.variables.add(name)
        if name in names:
            return names[name]
        if name == "range":
            return UNKNOWN
        if name in self.maybe:
            self._say(
                "LMP201",
                node,
                f"`{name}` is set on some ways through the template only",
                name,
                "set it before",
            )
        elif name in CLOCKS:
            self._say("LMP802", node, f"`{name}` gives another value each time", name)
        else:
            fix = suggestion(name, [known for known in self.names if known != "vars"], "names")
            self._say("LMP201", node, f"the template has no variable `{name}`", name, fix)
        return UNKNOWN

    def _getattr(self, node: Any, names: Names) -> Type:
        name = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
        kind = self._type(node.node, names)
        if isinstance(name, str) and name.startswith("_"):
            return UNKNOWN
        if not isinstance(name, str):
            if not isinstance(node.arg, nodes.Const):
                self._type(node.arg, names)
            if isinstance(kind, ListOf):
                return kind if isinstance(node.arg, nodes.Slice) else kind.item
            return STR if kind == STR or isinstance(kind, Enum) else UNKNOWN
        if isinstance(kind, Optional):
            self._say(
                "LMP204", node, f"`{dotted_name(node.node)}` is {kind}: it may be absent here", dotted_name(node.node)
            )
            kind = kind.inner
        if isinstance(kind, Object):
            found = kind.get(name)
            if found is not None:
                return found
            if name in ("items", "keys", "values"):
                return _Method(name)
            code = "LMP201" if dotted_name(node.node) == "vars" else "LMP203"
            fix = suggestion(name, [field for field, _ in kind.fields], "fields")
            self._say(code, node, f"`{dotted_name(node.node) or kind}` has no field `{name}`", name, fix)
            return UNKNOWN
        if kind == STR or isinstance(kind, Enum):
            if name in STRING_METHODS:
                return _Method(name)
            self._say("LMP203", node, f"a {kind} has no field `{name}`", name)
        elif kind in (INT, FLOAT, BOOL) or isinstance(kind, ListOf):
            self._say("LMP203", node, f"a {kind} has no field `{name}`", name)
        elif kind == JSON:
            return _Method(name) if name in ("items", "keys", "values") else JSON
        return UNKNOWN

    def _call(self, node: Any, names: Names) -> Type:
        for argument in node.args:
            self._type(argument, names)
        if isinstance(node.node, nodes.Name):
            return ListOf(INT) if node.node.name == "range" else UNKNOWN
        if isinstance(node.node, nodes.Getattr) and node.node.attr not in STRING_METHODS:
            return UNKNOWN
        kind = self._type(node.node, names)
        if not isinstance(kind, _Method):
            return UNKNOWN
        if kind.name.startswith(("is", "starts", "ends")):
            return BOOL
        return _TEXT_METHODS.get(kind.name, STR)

    def _filter(self, node: Any, names: Names) -> Type:
        name = node.name
        if name in ("default", "d") and isinstance(node.node, nodes.Name) and node.node.name not in names:
            kind: Type = UNKNOWN
        else:
            kind = self._type(node.node, names) if node.node is not None else STR
        for argument in node.args:
            self._type(argument, names)
        if not prints_well(name, kind):
            self._say("LMP205", node, f"`{name}` would print {kind} as Python", name, "write |tojson")
        return filtered(node, kind)

    def _test(self, node: Any, names: Names) -> Type:
        asked = node.name in ("defined", "undefined") and isinstance(node.node, nodes.Name)
        if asked:
            self._see(node.node)
        if asked and node.node.name in self.names:
            self.variables.add(node.node.name)
        if not asked:
            self._type(node.node, names)
        return BOOL

    def _logic(self, node: Any, names: Names) -> Type:
        left = self._type(node.left, names)
        inner = dict(names)
        self._narrow(node.left, isinstance(node, nodes.And), inner)
        right = self._type(node.right, inner)
        if isinstance(node, nodes.Or):
            left = without_none(left)
        found = join(left, right)
        return found if found is not None else UNKNOWN

    def _condition(self, node: Any, names: Names) -> Type:
        self._type(node.test, names)
        yes, no = dict(names), dict(names)
        self._narrow(node.test, True, yes)
        self._narrow(node.test, False, no)
        left = self._type(node.expr1, yes)
        right = self._type(node.expr2, no) if node.expr2 is not None else UNKNOWN
        found = join(left, right)
        return found if found is not None else UNKNOWN

    def _arithmetic(self, node: Any, names: Names) -> Type:
        left, right = self._type(node.left, names), self._type(node.right, names)
        if isinstance(left, Unknown) or isinstance(right, Unknown):
            return UNKNOWN
        found = join(left, right)
        if isinstance(node, nodes.Add) and (found == STR or isinstance(found, Enum | ListOf)):
            return STR if isinstance(found, Enum) else found
        if left in (INT, FLOAT) and right in (INT, FLOAT):
            return FLOAT if isinstance(node, nodes.Div) or found is None else found
        self._say("LMP203", node, f"this operator does not take {left} and {right}", fix="join texts with ~")
        return UNKNOWN

    def _bool(self, node: Any, names: Names) -> Type:
        for child in node.iter_child_nodes():
            self._type(child, names)
        return BOOL

    def _text(self, node: Any, names: Names) -> Type:
        for child in node.iter_child_nodes():
            self._printed(child, self._type(child, names))
        return STR

    def _list(self, node: Any, names: Names) -> Type:
        item: Type | None = UNKNOWN
        for child in node.items:
            kind = self._type(child, names)
            item = kind if isinstance(item, Unknown) else join(item, kind) if item is not None else None
        return ListOf(item if item is not None else UNKNOWN)

    def _dict(self, node: Any, names: Names) -> Type:
        fields = {getattr(pair.key, "value", None): self._type(pair.value, names) for pair in node.items}
        named = tuple((name, kind) for name, kind in fields.items() if isinstance(name, str))
        return Object(named) if len(named) == len(fields) else UNKNOWN

    def _const(self, node: Any, names: Names) -> Type:
        return type_of(node.value)

    def _operand(self, node: Any, names: Names) -> Type:
        return self._type(node.node, names)


_TYPINGS: dict[type[nodes.Node], Callable[[TemplateTyper, Any, Names], Type]] = {
    nodes.Name: TemplateTyper._name, nodes.Const: TemplateTyper._const, nodes.Getattr: TemplateTyper._getattr,
    nodes.Getitem: TemplateTyper._getattr, nodes.Call: TemplateTyper._call, nodes.Filter: TemplateTyper._filter,
    nodes.Test: TemplateTyper._test, nodes.Compare: TemplateTyper._bool, nodes.Not: TemplateTyper._bool,
    nodes.And: TemplateTyper._logic, nodes.Or: TemplateTyper._logic, nodes.CondExpr: TemplateTyper._condition,
    nodes.Concat: TemplateTyper._text, nodes.List: TemplateTyper._list, nodes.Tuple: TemplateTyper._list,
    nodes.Neg: TemplateTyper._operand, nodes.Pos: TemplateTyper._operand, nodes.Add: TemplateTyper._arithmetic,
    nodes.Sub: TemplateTyper._arithmetic, nodes.Mul: TemplateTyper._arithmetic, nodes.Div: TemplateTyper._arithmetic,
    nodes.Mod: TemplateTyper._arithmetic, nodes.FloorDiv: TemplateTyper._arithmetic, nodes.Dict: TemplateTyper._dict,
}  # fmt: skip
