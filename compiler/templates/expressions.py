"""The types of the expressions in a template, and the problems in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import nodes

from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.templates.compiled import STRING_METHODS, dotted_name
from lmprog.compiler.templates.guards import Names, narrow
from lmprog.compiler.templates.safety import CLOCKS, Problem, problem_at
from lmprog.compiler.templates.signatures import (
    FILTER_SIGNATURES,
    METHOD_SIGNATURES,
    ORDERINGS,
    TEST_SIGNATURES,
    Signature,
    is_iterable,
    is_number,
    is_text,
    item_of,
    prints_well,
)
from lmprog.compiler.types.lattice import (
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

_MAKES_TEXT = frozenset({"upper", "lower", "title", "capitalize", "trim", "string"})


@dataclass(frozen=True)
class Method(Type):
    """The type of something that can only be called: a method of a value, or `range`; `name` is shown in messages."""

    name: str

    def __str__(self) -> str:
        return "method"


@dataclass
class Expressions:
    """The typing of the expressions of one template (`text`), from the types of its inputs (`names`), by `type`. It collects
    the `problems` that are found, and in `variables` the inputs that the template reads."""

    text: str
    names: Mapping[str, Type]
    problems: list[Problem] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)
    maybe: set[str] = field(default_factory=set)
    """Names that are set on some ways through the template only."""
    seen: dict[tuple[int, str], int] = field(default_factory=dict)
    """Number of times that a name was met in a line, since the nodes of a template have no columns."""

    def say(self, code: str, node: nodes.Node, message: str, word: str = "", fix: str | None = None) -> None:
        """Add a problem at the place of `word` in the line of `node`; `fix` None: how to mend it is not known. `code`
        (`LMPnnn`) and `message` are those of the finding."""
        skip = max(0, self.seen.get((node.lineno, word), 1) - 1)
        self.problems.append(problem_at(self.text, code, node, message, word, fix, skip))

    def see(self, node: nodes.Name) -> None:
        """Record that a name was met in its line, for the places of later problems."""
        self.seen[node.lineno, node.name] = self.seen.get((node.lineno, node.name), 0) + 1

    def type(self, node: nodes.Node, names: Names) -> Type:
        """Return the type of an expression, UNKNOWN where there is none, and add the problems in it. `names` (left as
        they are) are the types of the names at its place: inputs, and what the template has set."""
        typing = _TYPINGS.get(type(node))
        if typing is not None:
            return typing(self, node, names)
        for child in node.iter_child_nodes():
            self.type(child, names)
        return UNKNOWN

    def printed(self, node: nodes.Node, kind: Type) -> None:
        """Report (LMP205) a value of type `kind` that the template would print in Python's notation instead of as text:
        a list, an object, json, a bool, a method, or a value that may be absent.
        """
        word = dotted_name(node)
        if isinstance(kind, Method):
            fix = f"write {word}() or |{kind.name}" if kind.name in STRING_METHODS else "write |items"
            fix = 'write range(n)|join(" ")' if kind.name == "range" else fix
            self.say("LMP205", node, f"`{word}` is a method, and would print as Python", word.split(".")[-1], fix)
        elif isinstance(kind, Optional):
            shown = f"`{word}`" if word else "this value"
            self.say(
                "LMP205",
                node,
                f"{shown} is {kind}, and would print as None where it is absent",
                word.split(".")[0],
                f"write {{% if {word} %}}...{{% endif %}} or |default('', true)" if word else None,
            )
        elif kind in (BOOL, JSON, MESSAGES) or isinstance(kind, ListOf | Object):
            fix = "write |tojson" + (' or |join(", ")' if isinstance(kind, ListOf) else "")
            shown = f"`{word}`" if word else "this value"
            self.say("LMP205", node, f"{shown} is {kind}, and would print as Python", word.split(".")[0], fix)

    # names and fields

    def _name(self, node: Any, names: Names) -> Type:
        name: str = node.name
        self.see(node)
        if name in self.names:
            self.variables.add(name)
        if name in names:
            return names[name]
        if name == "range":
            return Method(name)
        if name in self.maybe:
            message = f"`{name}` is set on some ways through the template only"
            self.say("LMP201", node, message, name, "set it before")
        elif name in CLOCKS:
            self.say("LMP802", node, f"`{name}` gives another value each time", name)
        else:
            of_vars = self.names.get("vars")
            if isinstance(of_vars, Object) and of_vars.get(name) is not None:
                fix: str | None = f"write vars.{name}"
            else:
                fix = suggestion(name, [known for known in self.names if known != "vars"], "names")
            self.say("LMP201", node, f"the template has no variable `{name}`", name, fix)
        return UNKNOWN

    def _getattr(self, node: Any, names: Names) -> Type:
        name = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
        kind = self.type(node.node, names)
        if isinstance(name, str) and name.startswith("_"):
            return UNKNOWN
        around = dotted_name(node.node)
        if isinstance(kind, Optional):
            self.say("LMP204", node, f"`{around}` is {kind}: it may be absent here", around)
            kind = kind.inner
        if not isinstance(name, str):
            return self._item(node, kind, names)
        narrowed = names.get(f"{around}.{name}") if around else None
        if narrowed is not None:
            return narrowed
        if isinstance(kind, Object):
            found = kind.get(name)
            if found is not None:
                return found
            if name in ("items", "keys", "values"):
                return Method(name)
            code = "LMP201" if around == "vars" else "LMP203"
            fix = suggestion(name, [field for field, _ in kind.fields], "fields")
            self.say(code, node, f"`{around or kind}` has no field `{name}`", name, fix)
            return UNKNOWN
        if is_text(kind):
            if name in STRING_METHODS:
                return Method(name)
            self.say("LMP203", node, f"a {kind} has no field `{name}`", name)
        elif is_number(kind) or isinstance(kind, ListOf):
            self.say("LMP203", node, f"a {kind} has no field `{name}`", name)
        elif kind == JSON:
            return Method(name) if name in ("items", "keys", "values") else JSON
        return UNKNOWN

    def _item(self, node: Any, kind: Type, names: Names) -> Type:
        """Return the type of `x[i]` or `x[a:b]`."""
        if isinstance(node.arg, nodes.Slice):
            for bound in (node.arg.start, node.arg.stop, node.arg.step):
                if bound is not None:
                    self.type(bound, names)
            if isinstance(kind, ListOf):
                return kind
        elif isinstance(node.arg, nodes.Const):
            index: Type = type_of(node.arg.value)
        else:
            index = self.type(node.arg, names)
        around = dotted_name(node.node)
        if isinstance(kind, ListOf) or is_text(kind):
            if not isinstance(node.arg, nodes.Slice) and not isinstance(index, Unknown) and index not in (INT, JSON):
                message = f"the index of a {kind} is a whole number, not {index}"
                self.say("LMP203", node, message, around.split(".")[0])
                return UNKNOWN
            return kind.item if isinstance(kind, ListOf) else STR
        if is_number(kind):
            self.say("LMP203", node, f"a {kind} has no items", around.split(".")[0])
        return JSON if kind in (JSON, MESSAGES) else UNKNOWN

    # filters, tests, methods

    def _arguments(self, node: Any, names: Names) -> list[Type]:
        for keyword in node.kwargs or ():
            self.type(keyword.value, names)
        for extra in (node.dyn_args, node.dyn_kwargs):
            if extra is not None:
                self.type(extra, names)
        return [self.type(argument, names) for argument in node.args]

    def _call(self, node: Any, names: Names) -> Type:
        arguments = self._arguments(node, names)
        if isinstance(node.node, nodes.Name):
            return ListOf(INT) if node.node.name == "range" else UNKNOWN
        if isinstance(node.node, nodes.Getattr) and node.node.attr not in STRING_METHODS:
            return UNKNOWN
        kind = self.type(node.node, names)
        signature = METHOD_SIGNATURES.get(kind.name) if isinstance(kind, Method) else None
        if signature is None or not isinstance(kind, Method):
            return UNKNOWN
        return self._used(node, signature, kind.name, STR, arguments, names)

    def _used(
        self, node: Any, signature: Signature, name: str, kind: Type, arguments: list[Type], names: Names
    ) -> Type:
        wrong = None
        if node.dyn_args is None and node.dyn_kwargs is None:
            wrong = signature.wrong(name, kind, arguments, len(node.kwargs or ()))
        if wrong is not None:
            self.say(wrong[0], node, wrong[1], name)
            return UNKNOWN
        return signature.result(kind, arguments)

    def _filter(self, node: Any, names: Names) -> Type:
        name = node.name
        signature = FILTER_SIGNATURES.get(name)
        if name in ("default", "d") and isinstance(node.node, nodes.Name) and node.node.name not in names:
            kind: Type = UNKNOWN
        else:
            kind = self.type(node.node, names) if node.node is not None else STR
        arguments = self._arguments(node, names)
        keywords = {keyword.key: keyword.value for keyword in node.kwargs or ()}
        if name in ("default", "d") and arguments and "boolean" in keywords:
            arguments = [arguments[0], BOOL]
        if name in ("join", "map", "sum") and "attribute" in keywords:
            kind = ListOf(_attribute(item_of(kind), keywords["attribute"]))
            if name == "map":
                return kind
        elif name == "map":
            return ListOf(self._mapped(node, item_of(kind)))
        if not prints_well(name, kind):
            self.say("LMP205", node, f"`{name}` would print {kind} as Python", name, "write |tojson")
            return STR
        return self._used(node, signature, name, kind, arguments, names) if signature is not None else UNKNOWN

    def _mapped(self, node: Any, item: Type) -> Type:
        """Return the type of an item (`item`) after `map("filter", ...)`; UNKNOWN for a filter with arguments."""
        named = node.args[0].value if node.args and isinstance(node.args[0], nodes.Const) else None
        if named in _MAKES_TEXT:
            return STR
        signature = FILTER_SIGNATURES.get(named) if isinstance(named, str) else None
        return signature.result(item, ()) if signature is not None and len(node.args) == 1 else UNKNOWN

    def _test(self, node: Any, names: Names) -> Type:
        arguments = self._arguments(node, names)
        if node.name in ("defined", "undefined") and isinstance(node.node, nodes.Name):
            self.see(node.node)
            if node.node.name in self.names:
                self.variables.add(node.node.name)
            return BOOL
        kind = self.type(node.node, names)
        signature = TEST_SIGNATURES.get(node.name)
        if signature is None:
            fix = suggestion(node.name, TEST_SIGNATURES, "tests")
            self.say("LMP201", node, f"there is no test `{node.name}`", node.name, fix)
            return BOOL
        if node.name in ORDERINGS and arguments:
            self._ordered(node, kind, arguments[0])
        self._used(node, signature, node.name, kind, arguments, names)
        return BOOL

    # operators

    def _logic(self, node: Any, names: Names) -> Type:
        left = self.type(node.left, names)
        inner = dict(names)
        narrow(node.left, isinstance(node, nodes.And), inner)
        right = self.type(node.right, inner)
        if isinstance(node, nodes.Or):
            left = without_none(left)
        found = join(left, right)
        return found if found is not None else UNKNOWN

    def _condition(self, node: Any, names: Names) -> Type:
        self.type(node.test, names)
        yes, no = dict(names), dict(names)
        narrow(node.test, True, yes)
        narrow(node.test, False, no)
        left = self.type(node.expr1, yes)
        right = self.type(node.expr2, no) if node.expr2 is not None else UNKNOWN
        found = join(left, right)
        return found if found is not None else UNKNOWN

    def _arithmetic(self, node: Any, names: Names) -> Type:
        left, right = self.type(node.left, names), self.type(node.right, names)
        if any(isinstance(kind, Unknown) or kind == MESSAGES for kind in (left, right)):
            return UNKNOWN
        if isinstance(left, Optional) or isinstance(right, Optional):
            self.say("LMP204", node, f"this operator does not take {left} and {right}: one may be absent here")
            return UNKNOWN
        found = join(left, right)
        if isinstance(node, nodes.Add) and (found == STR or isinstance(found, Enum | ListOf)):
            return STR if isinstance(found, Enum) else found
        if isinstance(node, nodes.Add) and isinstance(left, ListOf) and isinstance(right, ListOf):
            return ListOf(UNKNOWN)
        if left in (INT, FLOAT) and right in (INT, FLOAT):
            return FLOAT if isinstance(node, nodes.Div) or found is None else found
        self.say("LMP203", node, f"this operator does not take {left} and {right}", fix="join texts with ~")
        return UNKNOWN

    def _compare(self, node: Any, names: Names) -> Type:
        left = self.type(node.expr, names)
        for operand in node.ops:
            right = self.type(operand.expr, names)
            if operand.op in ("gt", "gteq", "lt", "lteq"):
                self._ordered(node, left, right)
            elif operand.op in ("in", "notin"):
                self._member(node, left, right)
            left = right
        return BOOL

    def _ordered(self, node: nodes.Node, left: Type, right: Type) -> None:
        for kind in (left, right):
            if isinstance(kind, Optional):
                self.say("LMP204", node, f"a {kind} has no order: it may be absent here")
                return
        if any(isinstance(kind, Unknown) or kind in (JSON, MESSAGES) for kind in (left, right)):
            return
        lists = isinstance(left, ListOf) and isinstance(right, ListOf)
        if not (lists or (is_number(left) and is_number(right)) or (is_text(left) and is_text(right))):
            self.say("LMP203", node, f"{left} and {right} have no order")

    def _member(self, node: nodes.Node, left: Type, right: Type) -> None:
        if isinstance(right, Optional):
            self.say("LMP204", node, f"nothing can be in {right} where it is absent")
        elif not isinstance(right, Unknown) and right != JSON and not is_iterable(right):
            self.say("LMP203", node, f"nothing can be in {right}")
        elif is_text(right) and isinstance(left, Optional):
            self.say("LMP204", node, f"a {left} is in no text where it is absent")
        elif is_text(right) and not (is_text(left) or isinstance(left, Unknown) or left == JSON):
            self.say("LMP203", node, f"{left} is never in {right}")

    def _not(self, node: Any, names: Names) -> Type:
        self.type(node.node, names)
        return BOOL

    def _text(self, node: Any, names: Names) -> Type:
        for child in node.iter_child_nodes():
            self.printed(child, self.type(child, names))
        return STR

    def _list(self, node: Any, names: Names) -> Type:
        item: Type | None = UNKNOWN
        for child in node.items:
            kind = self.type(child, names)
            item = kind if isinstance(item, Unknown) else join(item, kind) if item is not None else None
        return ListOf(item if item is not None else UNKNOWN)

    def _dict(self, node: Any, names: Names) -> Type:
        fields = {getattr(pair.key, "value", None): self.type(pair.value, names) for pair in node.items}
        named = tuple((name, kind) for name, kind in fields.items() if isinstance(name, str))
        return Object(named) if len(named) == len(fields) else UNKNOWN

    def _const(self, node: Any, names: Names) -> Type:
        return type_of(node.value)

    def _sign(self, node: Any, names: Names) -> Type:
        kind = self.type(node.node, names)
        if isinstance(kind, Unknown) or is_number(kind):
            return INT if kind == BOOL else kind
        code = "LMP204" if isinstance(kind, Optional) else "LMP203"
        self.say(code, node, f"a {kind} has no sign", dotted_name(node.node).split(".")[0])
        return UNKNOWN


def _attribute(kind: Type, attribute: nodes.Node) -> Type:
    """Return the type of the field of `kind` that a filter names (`attribute="a.b"`); UNKNOWN where it cannot be found."""
    for name in attribute.value.split(".") if isinstance(getattr(attribute, "value", None), str) else ("",):  # type: ignore[attr-defined]
        kind = (kind.get(name) if isinstance(kind, Object) else None) or UNKNOWN
    return kind


_TYPINGS: dict[type[nodes.Node], Callable[[Expressions, Any, Names], Type]] = {
    nodes.Name: Expressions._name, nodes.Const: Expressions._const, nodes.Getattr: Expressions._getattr,
    nodes.Getitem: Expressions._getattr, nodes.Call: Expressions._call, nodes.Filter: Expressions._filter,
    nodes.Test: Expressions._test, nodes.Compare: Expressions._compare, nodes.Not: Expressions._not,
    nodes.And: Expressions._logic, nodes.Or: Expressions._logic, nodes.CondExpr: Expressions._condition,
    nodes.Concat: Expressions._text, nodes.List: Expressions._list, nodes.Tuple: Expressions._list,
    nodes.Neg: Expressions._sign, nodes.Pos: Expressions._sign, nodes.Add: Expressions._arithmetic,
    nodes.Sub: Expressions._arithmetic, nodes.Mul: Expressions._arithmetic, nodes.Div: Expressions._arithmetic,
    nodes.Mod: Expressions._arithmetic, nodes.FloorDiv: Expressions._arithmetic, nodes.Dict: Expressions._dict,
}  # fmt: skip
