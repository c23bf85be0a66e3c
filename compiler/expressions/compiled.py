"""`${{ expr }}`: a subset of Python's expressions, parsed once and compiled to closures.

Allowed: literals, lists, mappings, the roots with their fields, `x[i]`, arithmetic, comparisons, `in`, `and or not`,
`a if c else b`, and calls of the functions in `functions.py`. Nothing else, so that no expression can reach Python.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmprog.compiler.errors import Handled
from lmprog.compiler.expressions.functions import FUNCTIONS
from lmprog.compiler.expressions.parser import CONSTANTS, dotted, parse, references
from lmprog.compiler.types.lattice import UNKNOWN, Type, type_of

Run = Callable[[Mapping[str, Any]], Any]


class EvaluationError(Handled):
    """The error of an expression that has no value for the given names; the message has its place, its text and the
    cause."""


@dataclass(frozen=True)
class Expression:
    """A typed, compiled expression (from `parsed`), or a literal that may hold expressions (from `literal`), with the type
    of its value. Evaluation never changes the scope.

    `text` is the expression without `${{ }}`, `references` are the paths of names that it reads, `place` is its place as
    `file:line:column` (empty: unknown), `tree` its syntax tree (None for a literal), and `run` evaluates it. Expressions
    are equal by all but tree and function, and can be pickled.
    """

    text: str
    type: Type
    references: frozenset[tuple[str, ...]] = frozenset()
    """Dotted names that are read, as `("steps", "query", "query")`, with all their fields."""
    place: str = ""
    tree: ast.expr | None = field(default=None, compare=False, repr=False)
    """The parsed expression, or None for a literal."""
    run: Run = field(default=lambda scope: None, compare=False, repr=False)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """Return the value; `scope` has the values by root, such as those of `inputs` by name, and of `steps` by step and
        output.

        Raises EvaluationError where there is no value, as for a name that `scope` does not have.
        """
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
        """True if the expression reads no name, so that its value is always the same."""
        return not self.references

    def __reduce__(self) -> tuple[Any, ...]:
        if self.tree is not None:
            return _rebuild, (self.text, self.type, self.place)
        return _rebuild_literal, (self.parts(), self.type, self.place)

    def parts(self) -> Any:
        """Return the value of a literal as it was given to `literal`, with an Expression in the place of each expression
        in it. Only for a literal, whose `tree` is None."""
        return self.run({"": True})


def parsed(text: str, type: Type = UNKNOWN, place: str = "") -> Expression:
    """Return the Expression for `text`, which has no `${{ }}` around it. `type` is that of its value, which is not
    computed here, and `place` its place as text. Raises ExpressionError for a text that is no expression."""
    tree = parse(text)
    return Expression(text, type, frozenset(references(tree)), place, tree, _compile(tree))


def literal(value: Any, type: Type | None = None, place: str = "") -> Expression:
    """Return the Expression that has a plain value; lists and mappings in it may hold Expressions, which are evaluated
    with it. `type` None: the type of the value, in which an Expression counts as UNKNOWN. `place` is its place as
    text."""
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
    """Return the function that evaluates a literal, and add the names that it reads to `found`. For a scope with the
    empty name it returns the expressions themselves."""
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


def _times(left: Any, right: Any) -> Any:
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left * right
    raise TypeError("only numbers can be multiplied")


def _contains(container: Any, value: Any) -> bool:
    """Return whether a value is an item of a list, a part of a text or a key of a mapping; False for another container, and
    for a value that cannot be in it."""
    if not isinstance(container, str | list | tuple | Mapping):
        return False
    if isinstance(container, str) and not isinstance(value, str):
        return False
    return value in container if not isinstance(container, Mapping) else isinstance(value, str) and value in container


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: _times, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: lambda a, b: a % b if not isinstance(a, str) else _times(a, b),
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda a, b: _contains(b, a), ast.NotIn: lambda a, b: not _contains(b, a),
    ast.Is: lambda a, b: a is b if b is None else a == b,
    ast.IsNot: lambda a, b: a is not b if b is None else a != b,
}  # fmt: skip


def _field(value: Any, name: str) -> Any:
    """Return a field of a mapping or a pydantic object, or None where the value has no such field or no fields."""
    if isinstance(value, Mapping):
        try:
            return value[name]
        except KeyError:
            return None
    if not name.startswith("_") and hasattr(type(value), "model_fields"):
        return getattr(value, name)
    return None


def _item(value: Any, index: Any) -> Any:
    """Return an item or slice of a list, a character or slice of a text (empty beyond its end), or the value of a key of
    a mapping; None for an absent key and for a value without items. Raises IndexError beyond the end of a list."""
    if isinstance(value, str) and isinstance(index, int):
        return value[index : index + 1 or None]
    if isinstance(value, str | list | tuple):
        return value[index]
    return value.get(index) if isinstance(value, Mapping) and isinstance(index, str) else None


def _chain(name: tuple[str, ...]) -> Run:
    """Return a function that reads a dotted name from a scope. It raises KeyError where the scope lacks the name's first
    parts (`inputs.x`, `steps.a.b`); a field behind these is None where it is absent."""
    depth = {"steps": 3, "item": 1}.get(name[0], 2)
    root, known, fields = name[0], name[1:depth], name[depth:]
    if len(known) == 1 and not fields:
        only = known[0]
        return lambda scope: scope[root][only]

    def run(scope: Mapping[str, Any]) -> Any:
        value = scope[root]
        for part in known:
            value = value[part]
        for part in fields:
            value = _field(value, part)
        return value

    return run


def _compile(node: ast.AST) -> Run:
    """Return a function that evaluates a node of a checked syntax tree in a scope."""
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
        return lambda scope: _item(inner(scope), index(scope))
    if isinstance(node, ast.Slice):
        bounds = [_compile(part) if part else (lambda scope: None) for part in (node.lower, node.upper, node.step)]
        return lambda scope: slice(*(bound(scope) for bound in bounds))
    if isinstance(node, ast.List):
        items = [_compile(item) for item in node.elts]
        return lambda scope: [item(scope) for item in items]
    if isinstance(node, ast.Dict):
        pairs = [(_compile(k), _compile(v)) for k, v in zip(node.keys, node.values, strict=True) if k is not None]
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
        return (lambda scope: -inner(scope)) if isinstance(node.op, ast.USub) else (lambda scope: +inner(scope))
    if isinstance(node, ast.BinOp):
        apply, left, right = _ARITHMETIC[type(node.op)], _compile(node.left), _compile(node.right)
        return lambda scope: apply(left(scope), right(scope))
    if isinstance(node, ast.BoolOp):
        return _bool_op(isinstance(node.op, ast.And), [_compile(value) for value in node.values])
    assert isinstance(node, ast.Compare)
    first = _compile(node.left)
    rest = [(_COMPARE[type(op)], _compile(value)) for op, value in zip(node.ops, node.comparators, strict=True)]

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
