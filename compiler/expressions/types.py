"""The type of an expression, and what is wrong with it: undefined names, unguarded optional values, operators."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace

from lmprog.compiler.expressions.functions import FUNCTIONS, is_number, is_text
from lmprog.compiler.expressions.guards import Names, guards
from lmprog.compiler.expressions.list_meant import list_meant
from lmprog.compiler.expressions.parser import CONSTANTS, dotted
from lmprog.compiler.findings.finding import nearest, suggestion
from lmprog.compiler.steps.scope import Scope
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

_UNKNOWN_FIELD = {
    "inputs": ("LMP201", "there is no input `{}`"),
    "vars": ("LMP201", "there is no var `{}`"),
    "state": ("LMP201", "the state has no variable `{}`"),
    "metrics": ("LMP201", "there is no metric `{}`"),
    "row": ("LMP601", "the data have no column `{}`"),
    "outputs": ("LMP603", "the program has no output `{}`"),
    "trace": ("LMP603", "a trace has no `{}`"),
    "runs": ("LMP603", "`runs` has no field `{}`"),
    "loop": ("LMP203", "`loop` has no field `{}`"),
}


@dataclass(frozen=True)
class Problem:
    """A problem in a part of an expression, which becomes a finding: its code (`LMPnnn`), the part (`node`), the message,
    and how to fix it (None: not known)."""

    code: str
    node: ast.AST
    message: str
    fix: str | None = None


@dataclass
class Typer:
    """The computation of types in one expression: `scope` has the names that it may read, and `problems` collects what is
    wrong in it."""

    scope: Scope
    problems: list[Problem] = field(default_factory=list)

    def type(self, node: ast.AST, present: Names | None = None) -> Type:
        """Return the type of `node`, a tree from `parse`; UNKNOWN for a part with a problem, which is added to `problems`.

        `present` are the names known not to be null; None: those of the scope.
        """
        return self._infer(node, self.scope.present if present is None else present)

    def _say(self, code: str, node: ast.AST, message: str, fix: str | None = None) -> Type:
        """Add a problem, and return UNKNOWN, the type of what cannot be typed; None for a fix that is not known."""
        self.problems.append(Problem(code, node, message, fix))
        return UNKNOWN

    def _infer(self, node: ast.AST, present: Names) -> Type:
        if isinstance(node, ast.Constant):
            return Enum((node.value,)) if isinstance(node.value, str) else type_of(node.value)
        if isinstance(node, ast.Name) and node.id in CONSTANTS:
            return type_of(CONSTANTS[node.id])
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            return self._part(node, present)
        if isinstance(node, ast.List):
            return self._list(node, present)
        if isinstance(node, ast.Dict):
            return self._dict(node, present)
        if isinstance(node, ast.Call):
            return self._call(node, present)
        if isinstance(node, ast.IfExp):
            before = len(self.problems)
            self._infer(node.test, present)
            if len(self.problems) > before:
                self.scope = replace(self.scope, lenient=True)
            yes = self._infer(node.body, present | guards(node.test, True))
            no = self._infer(node.orelse, present | guards(node.test, False))
            found = join(yes, no)
            return (
                found
                if found is not None
                else self._say("LMP203", node, f"the two cases have the types {yes} and {no}", "give both one type")
            )
        if isinstance(node, ast.BoolOp):
            return self._bool(node, present)
        if isinstance(node, ast.UnaryOp):
            inner = self._infer(node.operand, present)
            if isinstance(node.op, ast.Not):
                return BOOL
            return self._arithmetic_operand(node.operand, inner)
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node, present)
        assert isinstance(node, ast.Compare)
        return self._compare(node, present)

    # names and fields

    def _part(self, node: ast.Name | ast.Attribute | ast.Subscript, present: Names) -> Type:
        name = dotted(node)
        found = self._whole(node, present)
        if name is not None and isinstance(found, Optional) and self.scope.is_present(name, present):
            return found.inner
        return found

    def _whole(self, node: ast.AST, present: Names) -> Type:
        if isinstance(node, ast.Name):
            return self._root(node)
        if isinstance(node, ast.Subscript):
            return self._item(node, present)
        assert isinstance(node, ast.Attribute)
        inner = node.value
        if isinstance(inner, ast.Name) and inner.id == "steps" and self.scope.steps is not None:
            return self._step(node)
        return self._field(node, inner, self._infer(inner, present))

    def _root(self, node: ast.Name) -> Type:
        if node.id in self.scope.roots:
            return self.scope.roots[node.id]
        if node.id == "steps" and self.scope.steps is not None:
            return self._say(
                "LMP203", node, "`steps` alone is no value", "name a step and its field: steps.<id>.<field>"
            )
        if node.id == "env":
            return self._say(
                "LMP405",
                node,
                "`env` can be read inside `lms` and `tools` only",
                "give the LM or tool the key there",
            )
        return self._say(
            "LMP201",
            node,
            f"`{node.id}` cannot be read {self.scope.where}",
            f"roots here: {', '.join(self.scope.names())}",
        )

    def _step(self, node: ast.Attribute) -> Type:
        steps = self.scope.steps
        assert steps is not None
        found = steps.find(node.attr)
        if found is not None:
            return found
        loop = steps.loop_around(node.attr)
        if loop:
            return self._say(
                "LMP201",
                node,
                f"the step `{node.attr}` is inside the loop `{loop}`, and cannot be read from outside it",
                f"keep its value in the state and read steps.{loop}.<state variable>",
            )
        fix = suggestion(node.attr, steps.ids(), "steps")
        return self._say("LMP201", node, f"there is no step `{node.attr}`", fix)

    def _field(self, node: ast.AST, inner: ast.AST, kind: Type, name: str | None = None) -> Type:
        attribute = name if name is not None else node.attr  # type: ignore[attr-defined]
        if isinstance(inner, ast.Name) and inner.id == "env" and "env" in self.scope.roots:
            return STR
        if isinstance(kind, Unknown) or kind == JSON:
            return kind
        if isinstance(kind, Optional):
            self._unguarded(inner, kind)
            return self._field(node, inner, kind.inner, name)
        if not isinstance(kind, Object):
            fix = f"write {FUNCTIONS[attribute].about}" if attribute in FUNCTIONS else None
            fix = "write len(x)" if attribute in ("length", "size") else fix
            return self._say("LMP203", node, f"a {kind} has no field `{attribute}`", fix)
        found = kind.get(attribute)
        if found is not None:
            if attribute == "last" and kind.get("index0") and not self.scope.count_known and _is_loop(inner):
                self._say(
                    "LMP301",
                    node,
                    "`loop.last` is not known in a loop that `until` may end",
                    "do this after the loop, or leave `until` out",
                )
            return found
        fields = [name for name, _ in kind.fields]
        root = inner.id if isinstance(inner, ast.Name) else None
        if root in _UNKNOWN_FIELD:
            code, message = _UNKNOWN_FIELD[root]
            return self._say(code, node, message.format(attribute), suggestion(attribute, fields, "names"))
        step = dotted(inner)
        if step and step[0] == "steps" and len(step) == 2:
            message = f"the step `{step[1]}` has no field `{attribute}`"
            return self._say("LMP203", node, message, suggestion(attribute, fields, "fields"))
        return self._say("LMP203", node, f"there is no field `{attribute}`", suggestion(attribute, fields, "fields"))

    def _unguarded(self, node: ast.AST, kind: Type) -> None:
        name = ".".join(dotted(node) or ("this value",))
        self._say(
            "LMP204",
            node,
            f"`{name}` is {kind}: it may be absent here",
            f"write default({name}, ...), guard it with `if {name} != null`, or give its step an `else`",
        )

    def _item(self, node: ast.Subscript, present: Names) -> Type:
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            if isinstance(node.value, ast.Name) and node.value.id == "steps":
                attribute = ast.copy_location(ast.Attribute(node.value, node.slice.value, ast.Load()), node)
                return self._whole(attribute, present)
            return self._field(node, node.value, self._infer(node.value, present), node.slice.value)
        kind = self._value(node.value, present)
        if isinstance(node.slice, ast.Slice):
            for part in (node.slice.lower, node.slice.upper, node.slice.step):
                if part is not None and self._infer(part, present) not in (INT, UNKNOWN):
                    self._say("LMP203", part, "the bounds of a slice are whole numbers")
            if isinstance(kind, ListOf | Unknown) or kind in (JSON, MESSAGES):
                return kind
            return STR if is_text(kind) else self._say("LMP203", node, f"a {kind} has no parts")
        index = self._infer(node.slice, present)
        if kind == JSON:
            self._say("LMP208", node, "an item of a json value may be absent", "give the value a type: list[...]")
        if isinstance(kind, Unknown) or kind == JSON:
            return kind
        if index not in (INT, UNKNOWN):
            return self._say("LMP203", node.slice, f"the index of a {kind} is a whole number, not {index}")
        if isinstance(kind, ListOf):
            return kind.item
        if kind == MESSAGES:
            return JSON
        return STR if is_text(kind) else self._say("LMP203", node, f"a {kind} has no items")

    # values and operators

    def _value(self, node: ast.AST, present: Names) -> Type:
        """Return the type of a value that must not be null; report a problem where it may be."""
        kind = self._infer(node, present)
        if isinstance(kind, Optional):
            self._unguarded(node, kind)
            return kind.inner
        return kind

    def _list(self, node: ast.List, present: Names) -> Type:
        item: Type = UNKNOWN
        for element in node.elts:
            kind = self._infer(element, present)
            joined = kind if isinstance(item, Unknown) else join(item, kind)
            if joined is None:
                return ListOf(JSON)
            item = joined
        return ListOf(item)

    def _dict(self, node: ast.Dict, present: Names) -> Type:
        fields: list[tuple[str, Type]] = []
        for key, value in zip(node.keys, node.values, strict=True):
            kind = self._infer(value, present)
            if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
                return self._say("LMP203", key or node, "the keys of a mapping are words in quotes")
            fields.append((key.value, kind))
        return Object(tuple(fields))

    def _call(self, node: ast.Call, present: Names) -> Type:
        name = node.func.id  # type: ignore[attr-defined]
        function = FUNCTIONS[name]
        read = self._infer if function.takes_none else self._value
        kinds = [read(argument, present) for argument in node.args]
        if all(isinstance(kind, Unknown) for kind in kinds) and name not in ("len", "str", "json"):
            return UNKNOWN
        found = function.typing(kinds)
        if isinstance(found, str):
            return self._say("LMP203", node, f"`{name}`: {found}", list_meant(node, kinds) or function.about)
        return found

    def _bool(self, node: ast.BoolOp, present: Names) -> Type:
        is_and = isinstance(node.op, ast.And)
        result: Type | None = None
        for position, value in enumerate(node.values):
            kind = self._infer(value, present)
            present = present | guards(value, is_and)
            if not is_and and position < len(node.values) - 1:
                kind = without_none(kind)
            result = kind if result is None else join(result, kind)
            if result is None:
                return self._say("LMP203", value, "the sides of `and` and `or` need one type")
        return result or UNKNOWN

    def _arithmetic_operand(self, node: ast.AST, kind: Type) -> Type:
        if is_number(kind):
            return kind
        return self._say("LMP203", node, f"a {kind} is no number")

    def _arithmetic(self, node: ast.BinOp, present: Names) -> Type:
        left, right = self._value(node.left, present), self._value(node.right, present)
        if isinstance(left, Unknown) or isinstance(right, Unknown):
            return UNKNOWN
        if isinstance(node.op, ast.Add):
            if is_text(left) and is_text(right):
                return STR
            if isinstance(left, ListOf) and isinstance(right, ListOf):
                found = join(left, right)
                return found if found is not None else ListOf(JSON)
        if is_number(left) and is_number(right):
            whole = left == INT and right == INT and not isinstance(node.op, ast.Div)
            return INT if whole else FLOAT
        fix = "write str(x)" if isinstance(node.op, ast.Add) and (is_text(left) or is_text(right)) else None
        return self._say("LMP203", node, f"this operator does not take {left} and {right}", fix)

    def _compare(self, node: ast.Compare, present: Names) -> Type:
        left_node: ast.AST = node.left
        left = self._infer(left_node, present)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._infer(right_node, present)
            if isinstance(op, ast.Eq | ast.NotEq | ast.Is | ast.IsNot):
                self._equal(node, op, left, right)
            elif isinstance(op, ast.In | ast.NotIn):
                self._member(node, left, right_node, right)
            else:
                self._order(node, left_node, left, right_node, right)
            left_node, left = right_node, right
        return BOOL

    def _equal(self, node: ast.AST, op: ast.cmpop, left: Type, right: Type) -> None:
        always = "false" if isinstance(op, ast.Eq | ast.Is) else "true"
        for one, other in ((left, right), (right, left)):
            if one == Optional(UNKNOWN):
                if not isinstance(other, Optional | Unknown) and other != JSON:
                    self._say("LMP206", node, f"a {other} is never null, so this is always {always}")
                return
        left, right = without_none(left), without_none(right)
        if isinstance(left, Enum) and isinstance(right, Enum) and not set(left.values) & set(right.values):
            one, other = (left, right) if len(left.values) <= len(right.values) else (right, left)
            fix = suggestion(one.values[0], other.values, "values")
            message = f"{other} does not have the value `{one.values[0]}`, so this is always {always}"
            self._say("LMP206", node, message, fix)
        elif not _comparable(left, right):
            self._say("LMP203", node, f"{left} and {right} are never equal")

    def _member(self, node: ast.AST, left: Type, right_node: ast.AST, right: Type) -> None:
        if isinstance(right, Optional):
            self._unguarded(right_node, right)
            right = right.inner
        left = without_none(left)
        if isinstance(right, ListOf):
            if not _comparable(left, right.item):
                self._say("LMP203", node, f"{left} is never in {right}")
            elif isinstance(left, Enum) and isinstance(right.item, Enum):
                # A value that is written out is a slip; one that another enum has beside its others is none.
                written = right_node.elts if isinstance(right_node, ast.List) else []
                texts = [part.value for part in written if isinstance(part, ast.Constant)]
                strange = [value for value in texts if isinstance(value, str) and value not in left.values]
                if len(left.values) == 1 and left.values[0] not in right.item.values:
                    fix = suggestion(left.values[0], right.item.values, "values")
                    self._say("LMP206", node, f"{left} is never in {right}", fix)
                if len(left.values) > 1 and strange:
                    close = nearest(strange[0], left.values)
                    self._say(
                        "LMP206",
                        node,
                        f"{left} does not have the value `{strange[0]}`",
                        f"did you mean `{close}`?" if close else None,
                    )
        elif is_text(right):
            if not is_text(left):
                self._say("LMP203", node, f"{left} is never in a str")
        elif not isinstance(right, Unknown | Object) and right != JSON:
            self._say("LMP203", right_node, f"nothing can be in {right}")

    def _order(self, node: ast.AST, left_node: ast.AST, left: Type, right_node: ast.AST, right: Type) -> None:
        for part, kind in ((left_node, left), (right_node, right)):
            if isinstance(kind, Optional):
                self._unguarded(part, kind)
                return
        if not ((is_number(left) and is_number(right)) or (is_text(left) and is_text(right))):
            self._say("LMP203", node, f"{left} and {right} have no order")


def _is_loop(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "loop"


def _comparable(left: Type, right: Type) -> bool:
    if JSON in (left, right) or join(left, right) is not None:
        return True
    return isinstance(left, Object) and isinstance(right, Object)
