"""DSPy's signatures and the types of their fields, read from the syntax tree of a file; no code is run."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    IMAGE,
    INT,
    JSON,
    MESSAGES,
    STR,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
)

Say = Callable[[ast.AST, str], None]
"""A function that adds a note on the code at a node, with a text that says what is not carried over."""

_SIMPLE = {
    "str": STR,
    "int": INT,
    "float": FLOAT,
    "bool": BOOL,
    "dict": JSON,
    "Any": JSON,
    "object": JSON,
    "Dict": JSON,
}
_LISTS = ("list", "List", "set", "Set", "tuple", "Tuple", "Sequence", "Iterable", "frozenset")
_OF_DSPY = {"Image": IMAGE, "History": MESSAGES}
_WORD = re.compile(r"[^\[\]{},?'\"\s][^\[\]{},?'\"]*")
_MAX_DEPTH = 8
_MOST_CLASSES = 500
"""The most classes that one type is made of, each counted as often as it occurs."""


@dataclass(frozen=True)
class SignatureField:
    """A field of a DSPy signature: its type, and the author's description (`about`, None: none)."""

    type: Type = STR
    about: str | None = None
    declared: bool = True
    """False: the code gives no type, so that DSPy takes the field as a text and passes any value on."""


@dataclass(frozen=True)
class Signature:
    """A signature of DSPy: instructions (None: none), and the input and output fields by name."""

    inputs: Mapping[str, SignatureField] = field(default_factory=dict)
    outputs: Mapping[str, SignatureField] = field(default_factory=dict)
    instructions: str | None = None

    @property
    def words(self) -> str:
        """The instructions; where they are None or empty, the sentence that DSPy sends instead."""
        if self.instructions:
            return self.instructions
        given, made = (", ".join(f"`{name}`" for name in fields) for fields in (self.inputs, self.outputs))
        return f"Given the fields {given}, produce the fields {made}."

    def reasoned(self) -> Signature:
        """Return a new signature with the output `reasoning` before the other outputs, as ChainOfThought has it: a
        text, or an output of that name as it is declared; its instructions are `words`.
        """
        return Signature(self.inputs, {"reasoning": SignatureField(), **self.outputs}, self.words)


class Signatures:
    """A reader of the signatures and types in the code of a file: `classes` are all its classes by name, `dspy_name`
    returns the DSPy name of a Python expression (None: it has none), and `say(node, text)` is called for each part that
    is not carried over. `used` has the names of the classes that were read.
    """

    def __init__(
        self, classes: Mapping[str, ast.ClassDef], dspy_name: Callable[[ast.AST], str | None], say: Say
    ) -> None:
        self.classes, self.dspy_name, self.say = classes, dspy_name, say
        self.used: set[str] = set()
        self._open: list[str] = []
        self._made = 0

    def is_signature(self, node: ast.ClassDef) -> bool:
        """Return whether a class is a signature, by one of its bases, also through at most 8 other classes of the file."""
        return any(self._is_base(base, 0) for base in node.bases)

    def _is_base(self, base: ast.expr, depth: int) -> bool:
        """Return whether the base of a class is `dspy.Signature` or a class of the file that inherits from it; `depth` is the
        number of classes passed so far.
        """
        if self.dspy_name(base) == "Signature":
            return True
        known = self.classes.get(base.id) if isinstance(base, ast.Name) else None
        return known is not None and depth < _MAX_DEPTH and any(self._is_base(one, depth + 1) for one in known.bases)

    def of_class(self, node: ast.ClassDef) -> Signature:
        """Return the signature that a class declares, with the fields of the signatures that it inherits from before
        its own; its docstring has the instructions, else that of the last signature among its bases (None: neither has
        one). `say` is called for what is no field.
        """
        self.used.add(node.name)
        inputs: dict[str, SignatureField] = {}
        outputs: dict[str, SignatureField] = {}
        instructions = None
        for base in node.bases:
            known = self.classes.get(base.id) if isinstance(base, ast.Name) else None
            if known is not None and known is not node and self.is_signature(known):
                inherited = self.of_class(known)
                inputs |= inherited.inputs
                outputs |= inherited.outputs
                instructions = inherited.instructions
        for part in node.body:
            name, value, kind = _declared(part)
            called = self.dspy_name(value.func) if isinstance(value, ast.Call) else None
            if name is None or called not in ("InputField", "OutputField"):
                if not _is_docstring(part) and not isinstance(part, ast.Pass):
                    self.say(part, "it is no field of the signature")
                continue
            assert isinstance(value, ast.Call)
            made = SignatureField(self.type(kind) if kind is not None else STR, self._about(value), kind is not None)
            (inputs if called == "InputField" else outputs)[name] = made
        words = ast.get_docstring(node)
        return Signature(inputs, outputs, words if words is not None else instructions)

    def of_text(self, node: ast.AST, text: str, instructions: str | None = None) -> Signature | None:
        """Return the signature in a text such as `question -> answer: float`, with these instructions (None: none);
        None where it is none.

        `node` is the place in the code, for notes.
        """
        given, arrow, made = text.partition("->")
        try:
            inputs, outputs = (dict(self._parameters(part)) for part in (given, made))
        except (SyntaxError, ValueError, MemoryError):  # Python's parser raises the last for too deep nesting
            return None
        if not arrow or not outputs:
            return None
        return Signature(inputs, outputs, inspect.cleandoc(instructions) if instructions else None)

    def _parameters(self, text: str) -> Iterator[tuple[str, SignatureField]]:
        """Yield the names and fields of one side of a signature's text. Raises SyntaxError where it is none."""
        (function,) = ast.parse(f"def signature({text.strip()}): pass").body
        assert isinstance(function, ast.FunctionDef)
        for argument in function.args.args:
            kind = self.type(argument.annotation) if argument.annotation is not None else STR
            yield argument.arg, SignatureField(kind, declared=argument.annotation is not None)

    def _about(self, call: ast.Call) -> str | None:
        """Return the description in a call of InputField or OutputField; None where it has none. `say` is called for other
        arguments.
        """
        about = None
        for keyword in call.keywords:
            if keyword.arg in ("desc", "description") and isinstance(keyword.value, ast.Constant):
                about = str(keyword.value.value)
            elif keyword.arg != "type_":
                self.say(keyword.value, f"`{keyword.arg}` of a field")
        return about

    def type(self, node: ast.expr, depth: int = 0) -> Type:
        """Return the type of the language for a Python annotation; where the language has none for it, with a note by
        `say`, `json` for a union or a name with brackets, else `str`. `depth` is the level of nesting so far; classes
        below level 8 are `str`.
        """
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                return self.type(ast.parse(node.value, mode="eval").body, depth + 1)
            except (SyntaxError, ValueError, MemoryError):  # as in of_text
                pass
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._union([node.left, node.right], node, depth)
        if isinstance(node, ast.Subscript):
            return self._parametrized(node, depth)
        name = _last_name(node)
        of_dspy = _OF_DSPY.get(self.dspy_name(node) or "")
        if of_dspy is not None:
            if of_dspy == MESSAGES:
                self.say(node, "the form of dspy.History, fields by turn: here it is a list of {role, content}")
            return of_dspy
        if name in self.classes and isinstance(node, ast.Name) and depth < _MAX_DEPTH:
            return self._of_class(self.classes[name], depth)
        if name in _LISTS:
            return ListOf(JSON)
        if name in _SIMPLE:
            return _SIMPLE[name]
        self.say(node, f"the type `{ast.unparse(node)}`: it is taken as str")
        return STR

    def _parametrized(self, node: ast.Subscript, depth: int) -> Type:
        """Return the type for an annotation with brackets, such as `list[str]`, `Literal[...]` or `Optional[int]`."""
        name = _last_name(node.value)
        parts = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name in ("Optional", "Union"):
            return self._union([*parts, *([ast.Constant(None)] if name == "Optional" else [])], node, depth)
        if name == "Literal":
            return self._literal(node, parts)
        if name == "Annotated":
            self.say(node, f"what `{ast.unparse(node)}` says beside the type")
            return self.type(parts[0], depth + 1)
        if name in _LISTS:
            kinds = [part for part in parts if not (isinstance(part, ast.Constant) and part.value is ...)]
            inner = [self.type(part, depth + 1) for part in kinds]
            if name in ("set", "Set", "frozenset", "tuple", "Tuple"):
                self.say(node, f"`{ast.unparse(node)}`: it is a list")
            return ListOf(inner[0] if len(set(inner)) == 1 else JSON)
        if name in ("dict", "Dict", "Mapping"):
            return JSON
        self.say(node, f"the type `{ast.unparse(node)}`: it is taken as json")
        return JSON

    def _union(self, parts: list[ast.expr], node: ast.expr, depth: int) -> Type:
        """Return the type for a union of `parts`, written at `node`: optional where None is a part, `float` for int and float,
        and `json`, with a note, for other different types.
        """
        some = [part for part in parts if not (isinstance(part, ast.Constant) and part.value is None)]
        kinds = list(dict.fromkeys(self.type(part, depth + 1) for part in some))
        inner = kinds[0] if len(kinds) == 1 else FLOAT if set(kinds) == {INT, FLOAT} else JSON
        if inner == JSON and len(kinds) > 1:
            self.say(node, f"the type `{ast.unparse(node)}`: it is taken as json")
        return inner if len(some) == len(parts) or isinstance(inner, Optional) else Optional(inner)

    def _literal(self, node: ast.expr, parts: list[ast.expr]) -> Type:
        """Return the type for `Literal` at `node` with the values `parts`: an enum of texts, else a type with a note; optional
        where None is among them.
        """
        values = [part.value for part in parts if isinstance(part, ast.Constant) and part.value is not None]
        absent = len(values) < len(parts)
        if values and all(isinstance(value, str) for value in values):
            kind: Type = Enum(tuple(dict.fromkeys(map(str, values))))
        else:
            kind = {bool: BOOL, int: INT}.get(type(values[0]) if values else object, JSON)
            self.say(node, f"the values of `{ast.unparse(node)}`: the type is {kind}")
        return Optional(kind) if absent else kind

    def _of_class(self, node: ast.ClassDef, depth: int) -> Type:
        """Return the type of a class of the file: an enum of texts, or an object with the fields of a model, dataclass or
        TypedDict; `json` for a class without fields, for one inside itself, and beyond _MOST_CLASSES (500) in one type.
        """
        if node.name in self._open:
            return JSON  # A class that holds itself.
        self._made = self._made + 1 if self._open else 1
        if self._made > _MOST_CLASSES:
            self.say(
                node, f"the fields of `{node.name}` in a type of more than {_MOST_CLASSES} classes: it is taken as json"
            )
            return JSON
        self.used.add(node.name)
        self._open.append(node.name)
        found = self._parts(node, depth)
        self._open.pop()
        return found

    def _parts(self, node: ast.ClassDef, depth: int) -> Type:
        """Return the type of a class of the file: an enum where it has the base `Enum` and all its values are texts, else an
        object of its annotated attributes and those of its bases, or `json` where there are none. `say` is called for
        defaults and all other statements.
        """
        bases = {_last_name(base) for base in node.bases}
        if bases & {"Enum", "StrEnum", "IntEnum"}:
            found = [part.value for part in node.body if isinstance(part, ast.Assign)]
            values = [value.value for value in found if isinstance(value, ast.Constant)]
            if values and all(isinstance(value, str) for value in values):
                return Enum(tuple(map(str, values)))
        fields: dict[str, Type] = {}
        for base in node.bases:
            known = self.classes.get(base.id) if isinstance(base, ast.Name) else None
            inherited = self._of_class(known, depth + 1) if known is not None and depth < _MAX_DEPTH else None
            fields |= dict(inherited.fields) if isinstance(inherited, Object) else {}
        for part in node.body:
            name, value, kind = _declared(part)
            if name is not None and kind is not None:
                fields[name] = self.type(kind, depth + 1)
                if isinstance(value, ast.Call) or (isinstance(value, ast.Constant) and value.value is not None):
                    self.say(part, f"what is said of the field `{name}` beside its type")
            elif not _is_docstring(part) and not isinstance(part, ast.Pass):
                self.say(part, f"it is no field of `{node.name}`")
        return Object(tuple(fields.items())) if fields else JSON


def written(kind: Type) -> Any:
    """Return a type as a spec writes it: a text, or for an enum the mapping `{"enum": [values]}`. An enum inside another type
    whose values need quotes becomes `str`.
    """
    if isinstance(kind, Enum):
        return {"enum": list(kind.values)}
    return _text(kind)


def _text(kind: Type) -> str:
    """Return a type as one text, such as `list[{enum: [a, b]}]?`; an enum whose values need quotes is `str`."""
    if isinstance(kind, Enum):
        if all(_WORD.fullmatch(value) and value == value.strip() for value in kind.values):
            return f"{{enum: [{', '.join(kind.values)}]}}"
        return "str"  # A text of types has no way to quote such values.
    if isinstance(kind, ListOf):
        return f"list[{_text(kind.item)}]"
    if isinstance(kind, Optional):
        return f"{_text(kind.inner)}?"
    if isinstance(kind, Object):
        return "{" + ", ".join(f"{name}: {_text(inner)}" for name, inner in kind.fields) + "}"
    return str(kind)


def _declared(node: ast.stmt) -> tuple[str | None, ast.expr | None, ast.expr | None]:
    """Return the name, value and annotation of a class attribute; None for each that the statement lacks."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value, node.annotation
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value, None
    return None, None, None


def _is_docstring(node: ast.stmt) -> bool:
    """Return whether a statement is a text alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _last_name(node: ast.AST) -> str:
    """Return the last name of an expression such as `typing.Optional`; empty where it has none."""
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
