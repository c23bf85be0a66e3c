"""Types as plain values for JSON files, and types read from such values.

The short text of a type (`str(kind)`) leaves out the values of a long enum; this form keeps all of it but the validation of a
pydantic model, of which the fields remain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmprog.compiler.types.lattice import PRIMITIVES, UNKNOWN, Enum, ListOf, Object, Optional, Primitive, Type


def plain_type(kind: Type) -> Any:
    """Return a type as a plain value: its name (`unknown` for UNKNOWN), or a mapping with the one key `list`, `optional`,
    `enum` or `object`. Of a pydantic model the fields alone are kept."""
    if isinstance(kind, ListOf):
        return {"list": plain_type(kind.item)}
    if isinstance(kind, Optional):
        return {"optional": plain_type(kind.inner)}
    if isinstance(kind, Enum):
        return {"enum": list(kind.values)}
    if isinstance(kind, Object):
        return {"object": {name: plain_type(inner) for name, inner in kind.fields}}
    return str(kind)


def type_of_plain(value: Any, depth: int = 50) -> Type:
    """Return the type that a plain value of `plain_type` describes; UNKNOWN, which every value fits, where it describes
    none. `depth` is the number of levels that may still be nested in it: what is deeper is UNKNOWN."""
    if isinstance(value, str):
        return Primitive(value) if value in PRIMITIVES else UNKNOWN
    if not isinstance(value, Mapping) or len(value) != 1 or not depth:
        return UNKNOWN
    ((key, inner),) = value.items()
    if key == "list":
        return ListOf(type_of_plain(inner, depth - 1))
    if key == "optional":
        return Optional(type_of_plain(inner, depth - 1))
    if key == "enum" and isinstance(inner, list) and all(isinstance(each, str) for each in inner):
        return Enum(tuple(inner))
    if key == "object" and isinstance(inner, Mapping):
        return Object(tuple((str(name), type_of_plain(kind, depth - 1)) for name, kind in inner.items()))
    return UNKNOWN
