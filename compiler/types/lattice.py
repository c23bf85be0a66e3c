"""The types of the language, and the rule by which a value of one type may be used as another.

`assignable(source, target)` is the whole conversion rule of the language: an enum stands for a str or a larger enum, an int for
a float, a T for a T?, an object for one with fewer fields, and for json all but messages, images and T?. Nothing else converts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

PRIMITIVES = ("str", "int", "float", "bool", "json", "messages", "image")


@dataclass(frozen=True)
class Type:
    """The base of all types of the language, which are compared by value and cannot be changed; `str` returns the short text
    of one for messages."""

    def __str__(self) -> str:
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Primitive(Type):
    """A type without parts, by its `name`: `str int float bool json messages image`."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ListOf(Type):
    """The type `list[T]`, of lists whose items have the type `item`."""

    item: Type

    def __str__(self) -> str:
        return f"list[{self.item}]"


@dataclass(frozen=True)
class Optional(Type):
    """The type `T?`: a value of the type `inner`, or null."""

    inner: Type

    def __str__(self) -> str:
        return f"{self.inner}?"


@dataclass(frozen=True)
class Object(Type):
    """The type `{field: T}`, with its fields as pairs of name and type.

    `source` names the pydantic model that it was read from, as the spec writes it or as Python does (None: it was read
    from no model).
    """

    fields: tuple[tuple[str, Type], ...]
    source: str | None = None
    model: Any = field(default=None, compare=False, repr=False)
    """The PythonReference of a pydantic model that a spec names, which also validates values of the type; None where the
    fields alone decide."""

    def __str__(self) -> str:
        return self.source or "{" + ", ".join(f"{name}: {kind}" for name, kind in self.fields) + "}"

    def get(self, name: str) -> Type | None:
        """Return the type of a field; None where there is no such field."""
        return dict(self.fields).get(name)


@dataclass(frozen=True)
class Enum(Type):
    """The type `{enum: [...]}`: one of a fixed list of strings, `values`, in the order of the spec."""

    values: tuple[str, ...]

    @cached_property
    def members(self) -> frozenset[str]:
        """The values of the enum, as a set."""
        return frozenset(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return json.dumps(self.values[0], ensure_ascii=False)
        shown = ", ".join(self.values[:4]) + (", ..." if len(self.values) > 4 else "")
        return f"enum[{shown}]"


@dataclass(frozen=True)
class Unknown(Type):
    """The type of a value whose type is not known, as of an expression with a finding or an argument without annotation; it
    fits every type."""


ROLES = ("system", "developer", "user", "assistant", "tool", "function")
"""The possible roles of a chat turn."""
STR, INT, FLOAT, BOOL, JSON, MESSAGES, IMAGE = (Primitive(name) for name in PRIMITIVES)
UNKNOWN = Unknown()


def assignable(source: Type, target: Type) -> bool:
    """Return whether a value of type `source` may be used where `target` is expected: an enum as a str or a larger enum, an
    int as a float, a T as a T?, all but messages, image and T? as json, a list by its items. An object may have more
    fields than `target`, and lack those that are optional there; an unknown type fits, and takes, any."""
    if source == target or isinstance(source, Unknown) or isinstance(target, Unknown):
        return True
    if isinstance(target, Optional):
        return assignable(source.inner if isinstance(source, Optional) else source, target.inner)
    if isinstance(source, Optional):
        return False
    if target == JSON:
        return source not in (MESSAGES, IMAGE)
    if isinstance(source, Enum):
        return target == STR or (isinstance(target, Enum) and source.members <= target.members)
    if source == INT:
        return target == FLOAT
    if isinstance(source, ListOf) and isinstance(target, ListOf):
        return assignable(source.item, target.item)
    if isinstance(source, Object) and isinstance(target, Object):
        given = dict(source.fields)
        return all(
            assignable(given[name], kind) if name in given else isinstance(kind, Optional)
            for name, kind in target.fields
        )
    return False


def join(left: Type, right: Type) -> Type | None:
    """Return the type of a value that has one of two types: the one to which the other is `assignable`, or an enum of all
    their values, at any depth of lists and optional types; None where only json would take both, as for objects of which
    neither takes the other. Where one is unknown, return the other.
    """
    if left == right or isinstance(right, Unknown):
        return left
    if isinstance(left, Unknown):
        return right
    if isinstance(left, Optional) or isinstance(right, Optional):
        inner = join(without_none(left), without_none(right))
        return None if inner is None else Optional(inner)
    if isinstance(left, ListOf) and isinstance(right, ListOf):
        item = join(left.item, right.item)
        return None if item is None else ListOf(item)
    if assignable(left, right):
        return right
    if assignable(right, left):
        return left
    if isinstance(left, Enum) and isinstance(right, Enum):
        return Enum(left.values + tuple(value for value in right.values if value not in left.members))
    return None


def without_none(kind: Type) -> Type:
    """Return T for T?, and any other type unchanged."""
    return kind.inner if isinstance(kind, Optional) else kind


def mismatch(value: Any, kind: Type) -> str | None:
    """Return in a few words why `value` does not fit the type `kind`, with the part that does not, or None where it fits.

    A float may be an int, and a bool is neither; an object may have further fields, and lack optional ones; any value
    fits an unknown type. A value of a pydantic model is validated by the model, whose import may raise ImportFailed.
    Raises TypeError for an object that is no type.
    """
    if isinstance(kind, Primitive):
        if _FITS[kind.name](value):
            return None
        if isinstance(value, Mapping | list | tuple) and deeper(value):
            return f"it is nested deeper than {MAX_DEPTH}"
        return _strange_role(value, kind) or f"{_shown(value)} is not a value of type {kind}"
    if isinstance(kind, Unknown) or (isinstance(kind, Optional) and value is None):
        return None
    if isinstance(kind, Optional):
        return mismatch(value, kind.inner)
    if isinstance(kind, Enum):
        if isinstance(value, str) and value in kind.members:
            return None
        return f"{_shown(value)} is not one of {_some(kind.values)}"
    if isinstance(kind, ListOf):
        if not isinstance(value, list | tuple):
            return f"{_shown(value)} is not a list"
        for position, item in enumerate(value):
            wrong = mismatch(item, kind.item)
            if wrong:
                return f"item {position}: {wrong}"
        return None
    if isinstance(kind, Object):
        if not isinstance(value, Mapping):
            return f"{_shown(value)} is not an object"
        missing = [name for name, inner in kind.fields if name not in value and not isinstance(inner, Optional)]
        if missing and kind.model is None:
            return f"field {missing[0]} is missing"
        for name, inner in kind.fields:
            wrong = None if name in missing else mismatch(value.get(name), inner)
            if wrong and not (kind.model is not None and wrong.endswith(" is missing")):  # it may stand under an alias
                return f"field {name}: {wrong}"
        if kind.model is not None:
            from lmprog.compiler.types import pydantic_models  # which imports the plan, and that these types

            wrong = pydantic_models.validated(kind.model, dict(value))[1]
            return wrong or (f"field {missing[0]} is missing" if missing else None)
        return None
    raise TypeError(f"{kind!r} is no type of the language")


def _some(values: tuple[str, ...]) -> str:
    """Return the first 20 values as one text, each cut at 40 characters, with the number of all where there are more."""
    shown = ", ".join(value if len(value) <= 40 else value[:37] + "..." for value in values[:20])
    return shown if len(values) <= 20 else f"{shown}, ... ({len(values)} values)"


MAX_DEPTH = 100
"""The most lists and objects within each other in a value: a deeper one could not be written as JSON everywhere."""


def deeper(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Return whether lists and mappings are nested more than `depth` levels deep (a flat list is one), without recursion, so
    that `value` may be of any depth."""
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            if isinstance(outer, Mapping | list | tuple)
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
            if isinstance(inner, Mapping | list | tuple)
        ]
        if not level:
            return False
    return True


def _is_json(value: Any, depth: int = MAX_DEPTH) -> bool:
    if isinstance(value, Mapping):
        return depth > 0 and all(isinstance(key, str) and _is_json(item, depth - 1) for key, item in value.items())
    if isinstance(value, list | tuple):
        return depth > 0 and all(_is_json(item, depth - 1) for item in value)
    return value is None or isinstance(value, str | int | float | bool)


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(turn, Mapping) and {"role", "content"} <= set(turn) and turn["role"] in ROLES for turn in value
    )


def _strange_role(value: Any, kind: Type) -> str | None:
    for position, turn in enumerate(value if kind == MESSAGES and isinstance(value, list) else ()):
        role = turn.get("role") if isinstance(turn, Mapping) else None
        if isinstance(role, str) and role not in ROLES:
            return f"turn {position} has the role {_shown(role)}; the roles are {', '.join(ROLES[:-1])}"
    return None


_FITS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "json": _is_json,
    "messages": _is_messages,
    "image": lambda value: isinstance(value, str),
}


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "a value that is nested too deeply"
    except (TypeError, ValueError):
        # Of a table's own kind, as a date: the language has no such type.
        text = f"the {type(value).__name__} {value}"
    return text if len(text) <= 60 else text[:57] + "..."


def type_of(value: Any) -> Type:
    """Return the type of a plain value, such as a literal or a row of data, or UNKNOWN where no type describes it.

    None is an optional unknown type; a list of values without a common type is a list of json, an empty one of unknown
    items. The keys of a mapping are taken as texts.
    """
    if value is None:
        return Optional(UNKNOWN)
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT
    if isinstance(value, float):
        return FLOAT
    if isinstance(value, str):
        return STR
    if isinstance(value, list | tuple):
        item: Type = UNKNOWN
        for entry in value:
            found = type_of(entry)
            joined = found if isinstance(item, Unknown) else join(item, found)
            if joined is None:
                return ListOf(JSON)
            item = joined
        return ListOf(item)
    if isinstance(value, Mapping):
        return Object(tuple((str(key), type_of(item)) for key, item in value.items()))
    return UNKNOWN


def json_schema(kind: Type) -> dict[str, Any]:
    """Return the JSON schema of a type as a dictionary, as used for structured output and tool arguments; empty, which
    allows anything, for `json` and unknown types. Objects require all their fields, optional ones too, and allow no
    others; a pydantic model has its own schema, and raises ImportFailed where it cannot be imported."""
    if isinstance(kind, Optional):
        return {"anyOf": [json_schema(kind.inner), {"type": "null"}]}
    if isinstance(kind, ListOf):
        return {"type": "array", "items": json_schema(kind.item)}
    if isinstance(kind, Enum):
        return {"type": "string", "enum": list(kind.values)}
    if isinstance(kind, Object):
        if kind.model is not None:
            from lmprog.compiler.types import pydantic_models

            return pydantic_models.schema(kind.model)
        return {
            "type": "object",
            "properties": {name: json_schema(inner) for name, inner in kind.fields},
            "required": [name for name, _ in kind.fields],
            "additionalProperties": False,
        }
    simple = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "image": "string"}
    if str(kind) in simple:
        return {"type": simple[str(kind)]}
    if kind == MESSAGES:
        turn = {"type": "object", "properties": {"role": {"enum": list(ROLES)}}, "required": ["role", "content"]}
        return {"type": "array", "items": turn}
    return {}
