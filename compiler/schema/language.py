"""The JSON schema of the language, made from the shapes that the compiler itself checks with."""

from __future__ import annotations

import json
from typing import Any

import yaml

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
from lmprog.compiler.types.lattice import PRIMITIVES
from lmprog.compiler.types.shapes import LONG_FORM

IDENTIFIER = "^[A-Za-z_][A-Za-z0-9_]*$"
"""The pattern of names that an author gives to inputs, modules, steps and others."""
_TYPE_TEXT = rf"^\s*({'|'.join(PRIMITIVES)}|list\s*\[.+\]|\{{.*\}}|[^:\s]+:[A-Za-z_][A-Za-z0-9_]*)\s*\??\s*$"
"""A type as a text: what stands in brackets is left to `lmprog check`."""


def schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a program file, for editors and CI.

    It accepts every file that the compiler accepts; what needs more than the shape of the file (names, flow) is left to
    `lmprog check`. A program has all required keys; an overlay, a file with `extends`, holds only what differs.
    """
    program, overlay = _Writer(whole=True), _Writer(whole=False)
    written = {"program": program.made(PROGRAM), "overlay": overlay.made(PROGRAM)}
    written["program"]["dependentRequired"] = {"steps": ["outputs"]}
    for one in written.values():
        one["properties"]["lmprog"] = {"const": VERSION, "description": "The version of the language."}
        one["required"] = ["lmprog"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"program-{VERSION}.json",
        "title": "lmprog program",
        "type": "object",
        "if": {"type": "object", "properties": {"extends": True}, "required": ["extends"]},
        "then": {"$ref": "#/$defs/overlay"},
        "else": {"$ref": "#/$defs/program"},
        "$defs": {**written, **program.definitions, **overlay.definitions},
    }


def schema_text() -> str:
    """Return the JSON schema of the language as the text of a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


class _Writer:
    """A writer of shapes as JSON schemas: with `whole` of complete programs, else of overlays, in which every key may be
    left to the base. `definitions` collects the schemas that others refer to, by name."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.definitions: dict[str, Any] = {}

    def written(self, shape: Shape) -> dict[str, Any]:
        """Return the schema of a shape with its description, default and example."""
        made = self.made(shape)
        default = f"Default: {shape.default}." if shape.default else ""
        about = " ".join(part for part in (shape.about, default) if part)
        shown = {"examples": [yaml.safe_load(shape.example)]} if shape.example else {}
        return {"description": about, **made, **shown} if about else made

    def made(self, shape: Shape) -> dict[str, Any]:
        """Return the schema of a shape without its description; a Lazy one is a reference to a definition."""
        if isinstance(shape, Lazy):
            name = shape.name if self.whole or shape.name == "type" else f"{shape.name}_of_overlay"
            if name not in self.definitions:
                self.definitions[name] = {}
                inner = shape.shape()
                self.definitions[name] = _type(self, inner.about) if name == "type" else self.written(inner)
            return {"$ref": f"#/$defs/{name}"}
        if isinstance(shape, Text):
            return {"type": "string", **({"pattern": shape.pattern} if shape.pattern else {})}
        if isinstance(shape, Number):
            bounds = {"minimum": shape.least, "maximum": shape.most, "exclusiveMinimum": shape.above}
            kept = {key: value for key, value in bounds.items() if value is not None}
            number = {"type": "integer" if shape.whole else "number", **kept}
            return {"anyOf": [{"enum": list(shape.words)}, number]} if shape.words else number
        if isinstance(shape, Boolean):
            return {"type": "boolean"}
        if isinstance(shape, Choice):
            return {"enum": list(shape.words)}
        if isinstance(shape, Expr):
            return {"anyOf": [{"type": kind} for kind in ("string", "number", "boolean")]}
        if isinstance(shape, ListOf):
            least = {"minItems": shape.least} if shape.least else {}
            return {"type": "array", "items": self.written(shape.item), **least}
        if isinstance(shape, MapOf):
            names = {} if shape.free else {"propertyNames": {"type": "string", "pattern": IDENTIFIER}}
            return {"type": "object", "additionalProperties": self.written(shape.value), **names}
        if isinstance(shape, Record):
            return self._record(shape)
        if isinstance(shape, Either):
            parts = [part for part in (shape.scalar, shape.sequence, shape.mapping) if part is not None]
            return {"anyOf": [self.written(part) for part in parts]} if len(parts) > 1 else self.written(parts[0])
        assert isinstance(shape, Anything)
        return {} if shape.known is None else {"anyOf": [self.made(shape.known), {}]}

    def _record(self, shape: Record) -> dict[str, Any]:
        """Return the schema of an object.

        Where one of several keys decides its form, the schema has one alternative for each, with the keys that fit
        there.
        """
        shape = shape.having(shape.others.names()) if shape.others is not None else shape
        groups = shape.forms or tuple((key,) for key in shape.one_of)
        if not groups or not self.whole:
            return self._object(shape, tuple(shape.keys), shape.required)
        kinds = []
        for group in groups:
            rest = [key for key in shape.keys if key not in group and shape.beside(key, group)]
            kinds.append(self._object(shape, (*group, *rest), (*group, *shape.required)))
        return {"oneOf": kinds}

    def _object(self, shape: Record, keys: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
        """Return the schema of an object with these keys and no others; in an overlay none is required."""
        made = {
            "type": "object",
            "properties": {key: self.written(shape.keys[key]) for key in keys},
            "additionalProperties": False,
        }
        return {**made, "required": list(required)} if required and self.whole else made


def _type(writer: _Writer, about: str) -> dict[str, Any]:
    """Return the schema of a type: a text, the long form, an enum, or an object of types."""
    keys = {key: writer.written(shape) for key, shape in LONG_FORM.keys.items()}
    more = {key: made for key, made in keys.items() if key not in LONG_FORM.one_of}
    itself = {"$ref": "#/$defs/type"}
    return {
        "description": about,
        "anyOf": [
            {"type": "string", "pattern": _TYPE_TEXT},
            _closed({"type": keys["type"], **more}, "type"),
            _closed({"enum": keys["enum"], **more}, "enum"),
            {
                "type": "object",
                "additionalProperties": itself,
                "propertyNames": {"type": "string", "pattern": IDENTIFIER},
            },
        ],
    }


def _closed(properties: dict[str, Any], required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [required], "additionalProperties": False}
