"""The expressions in the code of a DSPy program, converted to expressions of the language."""

from __future__ import annotations

import ast
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.prompts.layout import RESERVED
from lmprog.compiler.types.lattice import BOOL, INT, STR, ListOf, Type, type_of
from lmprog.compiler.types.lattice import Unknown as NoType
from lmprog.imports.dspy_code import Constant, DspyFile, Instance
from lmprog.imports.dspy_signatures import SignatureField
from lmprog.imports.program import identifier

_SAME = ("len", "str", "int", "float", "sorted", "sum", "min", "max", "any", "all", "round", "abs")
"""The built-in functions of Python that the language has by the same name."""
_OF_TEXT = {"lower": 0, "upper": 0, "strip": 0, "split": 1, "replace": 2, "startswith": 1, "endswith": 1}
"""Methods of texts that the language has as functions, each with the most arguments that it takes beside the text."""
_LONGEST = 5_000
"""The most characters of the parts of one operation: what a loop doubles in each turn grows beyond all bounds."""
_LARGEST = 20_000
"""The largest value that is followed: characters of its expressions, and its parts, in all."""
_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Eq: "==", ast.NotEq: "!=",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in", ast.And: "and", ast.Or: "or", ast.Is: "==",
    ast.IsNot: "!=",
}  # fmt: skip


@dataclass(frozen=True)
class Expr:
    """An expression of the language as text, and its type (None: not known)."""

    text: str
    type: Type | None = None


@dataclass(frozen=True)
class Prediction:
    """The outputs, by name, of the step `step` (its id), which asks an LM; with `many` the step is repeated over a list,
    and each output is a list with one item for each call.
    """

    step: str
    outputs: Mapping[str, SignatureField]
    many: bool = False

    def field(self, name: str) -> Expr | None:
        """Return the expression of an output by its DSPy name; None where there is none of this name."""
        if name not in self.outputs:
            return None
        kind = self.outputs[name].type
        own = f"{name}_output" if name in RESERVED else identifier(name)
        return Expr(f"steps.{self.step}.{own}", ListOf(kind) if self.many else kind)


@dataclass(frozen=True)
class Either:
    """The outputs of one of two predictions after a condition: of `then` where its step ran, else of `other`."""

    then: Prediction | Either
    other: Prediction | Either

    @property
    def outputs(self) -> Mapping[str, SignatureField]:
        """The outputs that both have, by name, as `then` has them."""
        return {name: field for name, field in self.then.outputs.items() if name in self.other.outputs}

    def field(self, name: str) -> Expr | None:
        """Return the expression of an output; None where not both have it. Its type is not known where theirs differ."""
        then, other = self.then.field(name), self.other.field(name)
        if then is None or other is None:
            return None
        return Expr(f"default({then.text}, {other.text})", other.type if then.type == other.type else None)


@dataclass(frozen=True)
class Record:
    """An object with fields that the code itself makes, such as a `dspy.Prediction` or a dict: its values by name."""

    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Unknown:
    """A value that has no expression in the language; `name` is its name in the code."""

    name: str


def is_unknown(value: Any) -> bool:
    """Return whether a value, or a part of a list or Record, is Unknown."""
    if isinstance(value, Record):
        return any(map(is_unknown, value.fields.values()))
    return isinstance(value, Unknown) or (isinstance(value, list) and any(map(is_unknown, value)))


class Expressions(ABC):
    """A converter of the Python expressions of a file to values: expressions of the language (Expr), outputs of steps
    (Prediction, Either), plain values (Constant), lists, Records, objects of the code, or Unknown.
    """

    def __init__(self, file: DspyFile) -> None:
        self.file = file

    @abstractmethod
    def called(self, node: ast.Call, env: Mapping[str, Any], each: Expr | None = None) -> Any:
        """Return the value of a call that becomes a step of the program; None for any other call.

        `env` has the values of names, and `each` is the list over which the call is repeated (None: it is not).
        """

    @abstractmethod
    def read_field(self, base: Expr, name: str) -> None:
        """Take note that the field `name` of the value of an expression is read, which tells something of its type."""

    def value(self, node: ast.AST, env: Mapping[str, Any]) -> Any:
        """Return the value of a Python expression, Unknown where it has none in the language or would grow too large; `env`
        has the values of names. Calls that become steps are added to the program.
        """
        found = self._value(node, env)
        return Unknown("value") if _is_large(found) else found

    def _value(self, node: ast.AST, env: Mapping[str, Any]) -> Any:
        """Return the value of a Python expression, however large."""
        if isinstance(node, ast.Await):
            return self.value(node.value, env)
        if isinstance(node, ast.Constant):
            plain = node.value is None or isinstance(node.value, str | int | float)
            if self.file.is_key(node):
                return Unknown("key")
            return Constant(node.value) if plain else Unknown("value")
        if isinstance(node, ast.Name):
            if node.id not in env and node.id in self.file.constants:
                self.file.followed.add(node.id)
                return self.file.constants[node.id]
            return env.get(node.id, Unknown(node.id))
        if isinstance(node, ast.Attribute):
            return self._attribute(node, env)
        if isinstance(node, ast.Subscript):
            return self._item(node, env)
        if isinstance(node, ast.Call):
            return self._call(node, env)
        if isinstance(node, ast.ListComp):
            return self._each(node, env)
        if isinstance(node, ast.List | ast.Tuple):
            return self._list(node, env)
        return self._computed(node, env) or Unknown("value")

    def expr(self, value: Any) -> Expr | None:
        """Return a value as an expression of the language, such as a list, a Record or a plain value as a literal; None
        where it or a part of it has none, as Unknown and the outputs of a step in whole.
        """
        if isinstance(value, Expr):
            return value
        if isinstance(value, Constant):
            try:
                return Expr(json.dumps(value.value, ensure_ascii=False), type_of(value.value))
            except (TypeError, ValueError):
                return None
        if isinstance(value, list):
            parts = [self.expr(part) for part in value]
            if None in parts:
                return None
            kind = _common([part for part in parts if part is not None])
            text = ", ".join(part.text for part in parts if part is not None)
            return Expr(f"[{text}]", ListOf(kind if kind is not None and parts else NoType()))
        if isinstance(value, Record):
            fields = {name: self.expr(part) for name, part in value.fields.items()}
            if None not in fields.values():
                return Expr(
                    "{" + ", ".join(f"{json.dumps(name)}: {part.text}" for name, part in fields.items() if part) + "}"
                )
        return None

    def _attribute(self, node: ast.Attribute, env: Mapping[str, Any]) -> Any:
        """Return the value of an attribute of an object, of an output of a step, or of a field."""
        base = self.value(node.value, env)
        found: Any = None
        if isinstance(base, Instance):
            found = base.attributes.get(node.attr)
        elif isinstance(base, Prediction | Either):
            found = base.field(node.attr)
        elif isinstance(base, Record):
            found = base.fields.get(node.attr)
        elif isinstance(base, Expr):
            self.read_field(base, node.attr)
            found = Expr(f"{base.text}.{node.attr}")
        return found if found is not None else Unknown(node.attr)

    def _item(self, node: ast.Subscript, env: Mapping[str, Any]) -> Any:
        """Return the value of an item, or of a slice without a step, of a list, text or object."""
        base = self.value(node.value, env)
        if isinstance(node.slice, ast.Slice):
            found = self.expr(base)
            bounds = (node.slice.lower, node.slice.upper)
            ends = [self.expr(self.value(end, env)) if end is not None else Expr("") for end in bounds]
            if found is None or None in ends or node.slice.step is not None:
                return Unknown("part")
            return Expr(f"{found.text}[{':'.join(end.text for end in ends if end is not None)}]", found.type)
        index = self.value(node.slice, env)
        if isinstance(base, list) and isinstance(index, Constant) and isinstance(index.value, int):
            return base[index.value] if -len(base) <= index.value < len(base) else Unknown("item")
        if isinstance(base, Prediction | Either | Record) and isinstance(index, Constant):
            named = (
                base.field(str(index.value))
                if isinstance(base, Prediction | Either)
                else base.fields.get(str(index.value))
            )
            return named if named is not None else Unknown(str(index.value))
        found, place = self.expr(base), self.expr(index)
        if found is None or place is None:
            return Unknown("item")
        return Expr(f"{found.text}[{place.text}]", found.type.item if isinstance(found.type, ListOf) else None)

    def _list(self, node: ast.List | ast.Tuple, env: Mapping[str, Any]) -> Any:
        """Return a list of values; where it takes in other lists (`[*a, b]`) an expression that joins them, Unknown where a
        part has none.
        """
        if not any(isinstance(item, ast.Starred) for item in node.elts):
            return [self.value(item, env) for item in node.elts]
        parts = []
        for item in node.elts:
            value = self.value(item.value, env) if isinstance(item, ast.Starred) else [self.value(item, env)]
            parts.append(self.expr(value))
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return Unknown("values")
        return Expr(f"({' + '.join(part.text for part in known)})", _common(known))

    def _each(self, node: ast.ListComp, env: Mapping[str, Any]) -> Any:
        """Return the value of a list comprehension that calls a predictor or tool for each item of a list, as
        `[self.ask(x=x).y for x in xs]`; Unknown for any other one.
        """
        generator = node.generators[0]
        called: ast.expr = node.elt
        field = called.attr if isinstance(called, ast.Attribute) else None
        called = called.value if isinstance(called, ast.Attribute) else called
        called = called.value if isinstance(called, ast.Await) else called
        items = self.expr(self.value(generator.iter, env))
        plain = len(node.generators) == 1 and not generator.ifs and isinstance(generator.target, ast.Name)
        if not plain or items is None or not isinstance(called, ast.Call):
            return Unknown("values")
        assert isinstance(generator.target, ast.Name)
        kind = items.type.item if isinstance(items.type, ListOf) else None
        found = self.called(called, {**env, generator.target.id: Expr("item", kind)}, items)
        if isinstance(found, Expr) and field is None:
            return found
        if not isinstance(found, Prediction):
            return Unknown("values")
        return found if field is None else found.field(field) or Unknown(field)

    def _call(self, node: ast.Call, env: Mapping[str, Any]) -> Any:
        """Return the value of a call: a Record for `dspy.Prediction`, the value of a step, or an expression for a function
        or method that the language has; Unknown for any other.
        """
        function = node.func
        if self.file.dspy_name(function) == "Prediction":
            if node.args or any(keyword.arg is None for keyword in node.keywords):
                self.file.say("outputs", node, "fields that are not named")
            return Record({keyword.arg: self.value(keyword.value, env) for keyword in node.keywords if keyword.arg})
        found = self.called(node, env)
        if found is not None:
            return found
        given = [self.expr(self.value(one, env)) for one in node.args]
        parts = [one.text for one in given if one is not None]
        if len(parts) < len(given) or node.keywords:
            return Unknown("value")
        name = function.id if isinstance(function, ast.Name) else ""
        if name in _SAME:
            kinds: dict[str, Type] = {"len": INT, "str": STR, "any": BOOL, "all": BOOL}
            return Expr(f"{name}({', '.join(parts)})", kinds.get(name))
        if name == "list" and len(parts) == 1:
            return given[0]
        if self.file.dspy_name(function) == "deduplicate" or name == "deduplicate":
            return Expr(f"unique({', '.join(parts)})", given[0].type if given and given[0] else None)
        if isinstance(function, ast.Attribute):
            text = self.expr(self.value(function.value, env))
            if text is not None and function.attr == "join" and len(parts) == 1:
                return Expr(f"join({parts[0]}, {text.text})", STR)
            if text is not None and len(parts) <= _OF_TEXT.get(function.attr, -1):
                return Expr(
                    f"{function.attr}({', '.join([text.text, *parts])})", STR if _OF_TEXT[function.attr] != 1 else None
                )
        return Unknown(name or getattr(function, "attr", "value"))

    def _computed(self, node: ast.AST, env: Mapping[str, Any]) -> Expr | None:
        """Return the expression for an operation, a comparison, an f-string or a dict; None where the language has none."""
        if isinstance(node, ast.JoinedStr):
            return self._text(node, env)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._joined(["not "], [node.operand], env, BOOL)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._joined(["-"], [node.operand], env)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            if isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant | ast.JoinedStr):
                return None  # A text with places for values.
            return self._joined(["", f" {_OPERATORS[type(node.op)]} "], [node.left, node.right], env)
        if isinstance(node, ast.BoolOp):
            return self._joined(["", *[f" {_OPERATORS[type(node.op)]} "] * (len(node.values) - 1)], node.values, env)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
            return self._joined(["", f" {_OPERATORS[type(node.ops[0])]} "], [node.left, *node.comparators], env, BOOL)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.NotIn):
            found = self._joined(["", " in "], [node.left, *node.comparators], env)
            return Expr(f"(not {found.text})", BOOL) if found is not None else None
        if isinstance(node, ast.IfExp):
            return self._joined(["", " if ", " else "], [node.body, node.test, node.orelse], env)
        if isinstance(node, ast.Dict):
            pairs = [
                (key.value, value)
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant)
            ]
            if len(pairs) == len(node.keys):
                return self.expr(Record({str(key): self.value(value, env) for key, value in pairs}))
        return None

    def _joined(
        self, between: list[str], nodes: list[ast.expr], env: Mapping[str, Any], kind: Type | None = None
    ) -> Expr | None:
        """Return the parts of an operation as one expression in brackets, each behind one of the texts of `between`; None where
        a part has no expression, or all are too long. `kind` is its type (None: that of all parts, if they have one).
        """
        parts = [self.expr(self.value(node, env)) for node in nodes]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or sum(len(part.text) for part in known) > _LONGEST:
            return None
        kind = kind or _common(known)
        return Expr("(" + "".join(mark + part.text for mark, part in zip(between, known, strict=True)) + ")", kind)

    def _text(self, node: ast.JoinedStr, env: Mapping[str, Any]) -> Expr | None:
        """Return the expression for an f-string; None where a value has a format or no expression."""
        parts = []
        for piece in node.values:
            if isinstance(piece, ast.Constant):
                parts.append(json.dumps(piece.value, ensure_ascii=False))
                continue
            assert isinstance(piece, ast.FormattedValue)
            found = self.expr(self.value(piece.value, env))
            if found is None or piece.format_spec is not None or piece.conversion not in (-1, 115):
                return None
            parts.append(found.text if found.type == STR else f"str({found.text})")
        return Expr(f"({' + '.join(parts)})" if parts else '""', STR)


def _is_large(value: Any) -> bool:
    """Return whether the expressions in a value have more characters, or the value more parts, than _LARGEST in all; a
    part that occurs twice counts twice.
    """
    left, parts = _LARGEST, [value]
    while parts and left >= 0:
        part = parts.pop()
        left -= 1 + (len(part.text) if isinstance(part, Expr) else 0)
        if isinstance(part, list):
            parts += part
        elif isinstance(part, Record):
            parts += part.fields.values()
        elif isinstance(part, Either):
            parts += (part.then, part.other)
    return left < 0


def _common(parts: Sequence[Expr]) -> Type | None:
    """Return the type that all parts have, where an empty list may be one of any items; None where they differ."""
    kinds = {part.type for part in parts}
    kinds = kinds - {ListOf(NoType())} or kinds
    return kinds.pop() if len(kinds) == 1 else None
