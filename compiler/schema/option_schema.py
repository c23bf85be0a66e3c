"""Conversion of the JSON schema of an optimizer's options to a shape, so that checking them needs no pydantic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lmprog.compiler.shape import (
    Anything,
    Boolean,
    Choice,
    Either,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Record,
    Shape,
    Text,
)


def shape_of(schema: Mapping[str, Any], definitions: Mapping[str, Any] | None = None) -> Shape:
    """Return the shape, with description, default and example, for a JSON schema that pydantic wrote; parts that have no
    shape here allow anything.

    `definitions` are the schemas that its `$ref` name; None: those in its own `$defs`.
    """
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    shape, value = _shape(schema, definitions), schema.get("default")
    examples = schema.get("examples") or ([] if value is None else [value])
    return replace(
        shape,
        about=schema.get("description", shape.about),
        default="" if value is None else written(value),
        example=written(examples[0]) if examples else "",
    )


def written(value: Any) -> str:
    """Return a plain value as YAML in one line, as docs show it; texts have no quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _shape(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Shape:
    """Return the shape for a JSON schema, without its own description and default."""
    if "$ref" in schema:
        return shape_of(definitions.get(str(schema["$ref"]).rpartition("/")[2], {}), definitions)
    parts = schema.get("anyOf") or (schema["allOf"] if len(schema.get("allOf", ())) == 1 else None)
    if parts:
        return _any_of([part for part in parts], definitions)
    if "enum" in schema and all(isinstance(word, str) for word in schema["enum"]):
        return Choice(tuple(schema["enum"]))
    if isinstance(schema.get("const"), str):
        return Choice((schema["const"],))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return Number(kind == "integer", schema.get("minimum"), schema.get("maximum"), schema.get("exclusiveMinimum"))
    if kind == "boolean":
        return Boolean()
    if kind == "string":
        return Text()
    if kind == "array":
        return ListOf(shape_of(schema.get("items", {}), definitions), schema.get("minItems", 0))
    if kind == "object" and schema.get("additionalProperties") is False:
        keys = {name: shape_of(part, definitions) for name, part in schema.get("properties", {}).items()}
        return Record(keys, tuple(schema.get("required", ())))
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return MapOf(shape_of(schema["additionalProperties"], definitions), free=True)
    return Anything()


def _any_of(parts: list[Mapping[str, Any]], definitions: Mapping[str, Any]) -> Shape:
    """Return the shape for a choice of schemas: that of the only one, or one each for scalars, lists and mappings; of two
    for the same kind of value, but for words beside a number, one that allows anything. With null among the schemas the
    shape allows null too."""
    null = any(part.get("type") == "null" for part in parts)
    shapes = [shape_of(part, definitions) for part in parts if part.get("type") != "null"]
    rooms: dict[str, Shape] = {}
    for shape in shapes:
        room = {ListOf: "sequence", Record: "mapping", MapOf: "mapping"}.get(type(shape), "scalar")
        words = rooms.get(room)
        if isinstance(words, Choice) and isinstance(shape, Number):
            rooms[room] = replace(shape, words=words.words)
        elif isinstance(words, Number) and isinstance(shape, Choice):
            rooms[room] = replace(words, words=shape.words)
        else:
            # Other two shapes for one kind of value are not told apart: the optimizer itself will.
            rooms[room] = Anything() if room in rooms or isinstance(shape, Anything) else shape
    several = Either(rooms.get("scalar"), rooms.get("sequence"), rooms.get("mapping"))
    chosen = shapes[0] if len(shapes) == 1 else several
    return Nullable(chosen) if null else chosen
