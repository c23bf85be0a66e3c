"""The JSON schema of the language, made from the shapes that the compiler itself checks with."""

from __future__ import annotations

import json
from typing import Any

from lmprog.compiler.language import PROGRAM, VERSION
from lmprog.compiler.shape import (
    Anything,
    Boolean,
    Choice,
    Either,
    Expr,
    Lazy,
    ListOf,
    MapOf,
    Number,
    Record,
    Shape,
    Text,
)

IDENTIFIER = "^[A-Za-z_][A-Za-z0-9_]*$"


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a program file, for editors and CI. It accepts every file that the compiler accepts;
    what needs more than the shape of the file (names, types, flow) is left to `lmprog check`."""
    definitions: dict[str, Any] = {}
    body = _schema(PROGRAM, definitions)
    body["properties"]["lmprog"] = {"const": VERSION, "description": "The version of the language."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"program-{VERSION}.json",
        "title": "lmprog program",
        **body,
        # An overlay holds only what differs from its base, so that parts of it may lack required keys.
        "required": ["lmprog"],
        "$defs": definitions,
    }


def schema_text() -> str:
    """The schema as a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _schema(shape: Shape, definitions: dict[str, Any]) -> dict[str, Any]:
    made = _made(shape, definitions)
    return {"description": shape.about, **made} if shape.about else made


def _made(shape: Shape, definitions: dict[str, Any]) -> dict[str, Any]:
    if isinstance(shape, Lazy):
        if shape.name not in definitions:
            definitions[shape.name] = {}
            definitions[shape.name] = _schema(shape.shape(), definitions)
        return {"$ref": f"#/$defs/{shape.name}"}
    if isinstance(shape, Text):
        return {"type": "string", **({"pattern": shape.pattern} if shape.pattern else {})}
    if isinstance(shape, Number):
        bounds = {"minimum": shape.least, "maximum": shape.most}
        kept = {key: value for key, value in bounds.items() if value is not None}
        number = {"type": "integer" if shape.whole else "number", **kept}
        return {"anyOf": [{"enum": list(shape.words)}, number]} if shape.words else number
    if isinstance(shape, Boolean):
        return {"type": "boolean"}
    if isinstance(shape, Choice):
        return {"enum": list(shape.words)}
    if isinstance(shape, Expr):
        return {"type": ["string", "number", "boolean"]}
    if isinstance(shape, ListOf):
        least = {"minItems": shape.least} if shape.least else {}
        return {"type": "array", "items": _schema(shape.item, definitions), **least}
    if isinstance(shape, MapOf):
        names = {} if shape.free else {"propertyNames": {"pattern": IDENTIFIER}}
        return {"type": "object", "additionalProperties": _schema(shape.value, definitions), **names}
    if isinstance(shape, Record):
        return {
            "type": "object",
            "properties": {key: _schema(value, definitions) for key, value in shape.keys.items()},
            "additionalProperties": False,
        }
    if isinstance(shape, Either):
        parts = (shape.scalar, shape.sequence, shape.mapping)
        return {"anyOf": [_schema(part, definitions) for part in parts if part is not None]}
    assert isinstance(shape, Anything)
    return {}
