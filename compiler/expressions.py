"""`${{ expr }}`: a subset of Python's expressions, parsed once and compiled to closures.

Allowed: literals, lists, mappings, the roots with their fields, `x[i]`, arithmetic, comparisons, `in`, `and or not`,
`a if c else b`, and calls of the functions in `functions.py`. Nothing else, so that no expression can reach Python.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from lmprog.compiler.findings import suggestion
from lmprog.compiler.functions import FUNCTIONS
from lmprog.compiler.types import UNKNOWN, Type, type_of

ROOTS = ("inputs", "steps", "state", "loop", "item", "row", "outputs", "vars", "metrics", "env")
CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
MAX_LENGTH, MAX_DEPTH = 20_000, 120

Run = Callable[[Mapping[str, Any]], Any]


class ExpressionError(Exception):
    """A text that is no expression; `offset` is where in it, counted from 0."""

    def __init__(self, message: str, offset: int = 0, fix: str | None = None, code: str = "LMP101") -> None:
        super().__init__(message)
        self.message, self.offset, self.fix, self.code = message, offset, fix, code


class EvaluationError(Exception):
    """An expression that has no value for these values; the message says which, where and why."""


@dataclass(frozen=True)
class Expression:
    """A typed expression, or a literal that may hold expressions. `evaluate` never changes its scope."""

    text: str
    type: Type
    references: frozenset[tuple[str, ...]] = frozenset()
    """Dotted names that are read, as `("steps", "query", "query")`, with all their fields."""
    place: str = ""
    tree: ast.expr | None = field(default=None, compare=False, repr=False)
    """The parsed expression, or None for a literal."""
    run: Run = field(default=lambda scope: None, compare=False, repr=False)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value over `scope`, a mapping from roots to values. Raises EvaluationError."""
        try:
            return self.run(scope)
        except EvaluationError:
            raise
        except Exception as error:
            cause = f"{error} is absent" if isinstance(error, KeyError) else str(error)
            place = f"{self.place}: " if self.place else ""
            raise EvaluationError(f"{place}cannot evaluate `{self.text}`: {cause}") from error

    @property
    def constant(self) -> bool:
        return not self.references

    def __reduce__(self) -> tuple[Any, ...]:
        if self.tree is not None:
            return _rebuild, (self.text, self.type, self.place)
        return _rebuild_literal, (self.parts(), self.type, self.place)

    def parts(self) -> Any:
        """A literal's value, with an Expression in the place of each expression."""
        return self.run({"": True})


def parsed(text: str, type: Type = UNKNOWN, place: str = "") -> Expression:
    """The Expression that `text` writes, without `${{ }}`. Raises ExpressionError."""
    tree = parse(text)
    return Expression(text, type, frozenset(references(tree)), place, tree, _compile(tree))


def literal(value: Any, type: Type | None = None, place: str = "") -> Expression:
    """An Expression for a plain value; lists and mappings in it may hold Expressions."""
    found: set[tuple[str, ...]] = set()
    run = _literal_run(value, found)
    kind = type if type is not None else type_of(value)
    return Expression(_literal_text(value), kind, frozenset(found), place, None, run)


def _rebuild(text: str, type: Type, place: str) -> Expression:
    return parsed(text, type, place)


def _rebuild_literal(value: Any, type: Type, place: str) -> Expression:
    return literal(value, type, place)


def _literal_text(value: Any) -> str:
    if isinstance(value, Expression):
        return value.text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_literal_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal_text, value)) + "]"
    return repr(value)


def _literal_run(value: Any, found: set[tuple[str, ...]]) -> Run:
    if isinstance(value, Expression):
        found |= value.references
        inner = value.run
        return lambda scope: value if "" in scope else inner(scope)
    if isinstance(value, dict):
        parts = {key: _literal_run(item, found) for key, item in value.items()}
        return lambda scope: {key: part(scope) for key, part in parts.items()}
    if isinstance(value, list | tuple):
        items = [_literal_run(item, found) for item in value]
        return lambda scope: [item(scope) for item in items]
    return lambda scope: value


_INSTEAD = {"&&": "and", "||": "or", "===": "==", "?": "a if condition else b", "!": "not"}


@lru_cache(maxsize=65536)
def parse(text: str) -> ast.expr:
    """The checked tree of an expression. Raises ExpressionError with an offset in `text`."""
    line = text.replace("\n", " ").replace("\r", " ").replace("\t", " ")
    stripped = line.strip()
    lead = len(line) - len(line.lstrip())
    if not stripped:
        raise ExpressionError("the expression is empty")
    if len(stripped) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
    try:
        tree = ast.parse(stripped, mode="eval").body
    except SyntaxError as error:
        for wrong, right in _INSTEAD.items():
            position = stripped.find(wrong)
            if position >= 0 and stripped[position : position + 2] != "!=":
                raise ExpressionError(
                    f"`{wrong}` is no operator of an expression", lead + position, f"write `{right}`"
                ) from None
        offset = lead + max(0, (error.offset or 1) - 1)
        raise ExpressionError(f"`{stripped}` is no expression", min(offset, len(line) - 1)) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError("the expression cannot be read", lead) from None
    _Checker(stripped, lead).check(tree, 0)
    return tree


def offset_of(text: str, node: ast.AST) -> int:
    """Where in `text` the node starts, in characters."""
    lead = len(text) - len(text.lstrip())
    column: int = getattr(node, "col_offset", 0)
    encoded = text.strip().encode()
    return lead + (
        column if len(encoded) == len(text.strip()) else len(encoded[:column].decode(errors="replace"))
    )


def length_of(node: ast.AST) -> int:
    return max(1, (getattr(node, "end_col_offset", 0) or 0) - getattr(node, "col_offset", 0))


_NODES = (
    ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.IfExp, ast.Attribute, ast.Subscript, ast.Slice, ast.List,
    ast.Dict, ast.Constant, ast.Name, ast.Call,
)  # fmt: skip
_WORDS = {
    ast.Lambda: "a lambda", ast.ListComp: "a comprehension", ast.GeneratorExp: "a comprehension",
    ast.SetComp: "a comprehension", ast.DictComp: "a comprehension", ast.JoinedStr: "an f-string",
    ast.NamedExpr: "an assignment", ast.Starred: "`*`", ast.Set: "a set", ast.Tuple: "a tuple",
    ast.Await: "await", ast.Yield: "yield",
}  # fmt: skip
_FIXES = {ast.Tuple: "write a list: [a, b]", ast.JoinedStr: 'use join([...], "") or +'}


class _Checker:
    """Refuses what is not of the language."""

    def __init__(self, text: str, lead: int) -> None:
        self.text, self.lead = text, lead

    def fail(
        self, node: ast.AST, message: str, fix: str | None = None, code: str = "LMP101"
    ) -> ExpressionError:
        return ExpressionError(message, self.lead + offset_of(self.text, node), fix, code)

    def check(self, node: ast.AST, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ExpressionError("the expression is nested too deeply", self.lead)
        kind = type(node)
        if not isinstance(node, _NODES):
            what = _WORDS.get(kind, f"`{kind.__name__}`")
            raise self.fail(node, f"an expression cannot hold {what}", _FIXES.get(kind))
        if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | bool | None):
            raise self.fail(node, f"`{node.value!r}` is no value of the language")
        if isinstance(node, ast.Name):
            self._name(node)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("__"):
            raise self.fail(node, f"`{node.attr}` cannot be read", code="LMP201")
        elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not | ast.USub | ast.UAdd):
            raise self.fail(node, "this operator is not of the language")
        elif isinstance(node, ast.BinOp) and type(node.op) not in _ARITHMETIC:
            raise self.fail(node, "this operator is not of the language", "use + - * / // %")
        if isinstance(node, ast.Call):
            self._call(node)
            children: Iterator[ast.AST] = iter(node.args)
        else:
            children = _operands(node)
        for child in children:
            self.check(child, depth + 1)

    def _name(self, node: ast.Name) -> None:
        if node.id in ROOTS or node.id in CONSTANTS:
            return
        fix = (
            f"call it: {FUNCTIONS[node.id].about}"
            if node.id in FUNCTIONS
            else suggestion(node.id, ROOTS, "roots")
        )
        raise self.fail(node, f"`{node.id}` is not a root of expressions", fix, "LMP201")

    def _call(self, node: ast.Call) -> None:
        if not isinstance(node.func, ast.Name):
            method = node.func.attr if isinstance(node.func, ast.Attribute) else None
            fix = f"write {FUNCTIONS[method].about}" if method in FUNCTIONS else None
            raise self.fail(node, "a value cannot be called", fix)
        function = FUNCTIONS.get(node.func.id)
        if function is None:
            fix = suggestion(node.func.id, FUNCTIONS, "functions")
            raise self.fail(node, f"there is no function `{node.func.id}`", fix, "LMP201")
        if node.keywords:
            raise self.fail(node, "arguments of a function have no names", function.about)
        count = len(node.args)
        if count < function.least or (function.most is not None and count > function.most):
            raise self.fail(node, f"`{node.func.id}` cannot take {count} argument(s)", function.about)


def _operands(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr | ast.Slice):
            yield child


def dotted(node: ast.AST) -> tuple[str, ...] | None:
    """`("steps", "a", "b")` for `steps.a.b` and `steps["a"].b`; None for anything that is no chain from a root."""
    names: list[str] = []
    while True:
        if isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            if not isinstance(node.slice.value, str):
                return None
            names.append(node.slice.value)
            node = node.value
        elif isinstance(node, ast.Name) and node.id in ROOTS:
            return (node.id, *reversed(names))
        else:
            return None


def references(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """The dotted names that an expression reads, the longest each."""
    name = dotted(tree)
    if name is not None:
        yield name
        return
    children = tree.args if isinstance(tree, ast.Call) else _operands(tree)
    for child in children:
        yield from references(child)


def _times(left: Any, right: Any) -> Any:
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left * right
    raise TypeError("only numbers can be multiplied")


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: _times, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: lambda a, b: a % b if not isinstance(a, str) else _times(a, b),
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
    ast.Is: lambda a, b: a is b if b is None else a == b,
    ast.IsNot: lambda a, b: a is not b if b is None else a != b,
}  # fmt: skip


def _field(value: Any, name: str) -> Any:
    try:
        return value[name]
    except TypeError:
        if name.startswith("_") or not hasattr(type(value), "model_fields"):
            raise TypeError(f"{type(value).__name__} has no field {name}") from None
        return getattr(value, name)


def _chain(name: tuple[str, ...]) -> Run:
    root, fields = name[0], name[1:]
    if len(fields) == 1:
        only = fields[0]
        return lambda scope: _field(scope[root], only)

    def run(scope: Mapping[str, Any]) -> Any:
        value = scope[root]
        for part in fields:
            value = _field(value, part)
        return value

    return run


def _compile(node: ast.AST) -> Run:
    name = dotted(node)
    if name is not None:
        return _chain(name)
    if isinstance(node, ast.Constant):
        constant = node.value
        return lambda scope: constant
    if isinstance(node, ast.Name):
        word = CONSTANTS[node.id]
        return lambda scope: word
    if isinstance(node, ast.Attribute):
        inner, attribute = _compile(node.value), node.attr
        return lambda scope: _field(inner(scope), attribute)
    if isinstance(node, ast.Subscript):
        inner, index = _compile(node.value), _compile(node.slice)
        return lambda scope: inner(scope)[index(scope)]
    if isinstance(node, ast.Slice):
        bounds = [
            _compile(part) if part else (lambda scope: None) for part in (node.lower, node.upper, node.step)
        ]
        return lambda scope: slice(*(bound(scope) for bound in bounds))
    if isinstance(node, ast.List):
        items = [_compile(item) for item in node.elts]
        return lambda scope: [item(scope) for item in items]
    if isinstance(node, ast.Dict):
        pairs = [
            (_compile(k), _compile(v)) for k, v in zip(node.keys, node.values, strict=True) if k is not None
        ]
        return lambda scope: {key(scope): value(scope) for key, value in pairs}
    if isinstance(node, ast.Call):
        function = FUNCTIONS[node.func.id].call  # type: ignore[attr-defined]
        arguments = [_compile(argument) for argument in node.args]
        return lambda scope: function(*[argument(scope) for argument in arguments])
    return _compile_operator(node)


def _compile_operator(node: ast.AST) -> Run:
    if isinstance(node, ast.IfExp):
        test, yes, no = _compile(node.test), _compile(node.body), _compile(node.orelse)
        return lambda scope: yes(scope) if test(scope) else no(scope)
    if isinstance(node, ast.UnaryOp):
        inner = _compile(node.operand)
        if isinstance(node.op, ast.Not):
            return lambda scope: not inner(scope)
        return (
            (lambda scope: -inner(scope)) if isinstance(node.op, ast.USub) else (lambda scope: +inner(scope))
        )
    if isinstance(node, ast.BinOp):
        apply, left, right = _ARITHMETIC[type(node.op)], _compile(node.left), _compile(node.right)
        return lambda scope: apply(left(scope), right(scope))
    if isinstance(node, ast.BoolOp):
        return _bool_op(isinstance(node.op, ast.And), [_compile(value) for value in node.values])
    assert isinstance(node, ast.Compare)
    first = _compile(node.left)
    rest = [
        (_COMPARE[type(op)], _compile(value)) for op, value in zip(node.ops, node.comparators, strict=True)
    ]

    def compare(scope: Mapping[str, Any]) -> bool:
        left = first(scope)
        for holds, value in rest:
            right = value(scope)
            if not holds(left, right):
                return False
            left = right
        return True

    return compare


def _bool_op(is_and: bool, parts: list[Run]) -> Run:
    def run(scope: Mapping[str, Any]) -> Any:
        value = None
        for part in parts:
            value = part(scope)
            if bool(value) is not is_and:
                return value
        return value

    return run
