"""Pydantic models as types: their JSON schemas, and validation beyond the types of their fields.

A `model` here is the PythonReference of a model class; each function imports it, and raises ImportFailed where it cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmprog.compiler.types.python_reference import load

MAX_DEPTH = 8
"""The most references within each other that are written out in a schema; a model that holds itself allows anything beyond."""


def schema(model: Any) -> dict[str, Any]:
    """Return the JSON schema of the model that a PythonReference names, by aliases, with descriptions, bounds, formats and
    defaults, without titles, with references written out (those deeper than MAX_DEPTH (8), as in a model that holds itself,
    allow anything), and with objects that allow no further fields. Raises ImportFailed where it cannot be imported, and an
    error of pydantic where a field has no JSON schema."""
    whole = load(model).model_json_schema()  # type: ignore[attr-defined]
    return dict(_written_out(whole, whole.get("$defs", {}), 0))


def hint_schema(hint: Any) -> dict[str, Any] | None:
    """Return the JSON schema of a Python annotation as a dictionary, by field names (not aliases), without titles, with
    references written out; None for an annotation that pydantic has no schema for."""
    from pydantic import TypeAdapter

    try:
        whole = TypeAdapter(hint).json_schema(by_alias=False)
    except Exception:  # an annotation that pydantic does not know says nothing, as it does in the check
        return None
    return dict(_written_out(whole, whole.get("$defs", {}), 0, closed=False))


def validated(model: Any, value: Any) -> tuple[Any, str | None]:
    """Validate a value by the model that a PythonReference names; return it as plain values with the model's defaults, and
    None; or the unchanged value and in a few words the first thing that is wrong, also where the model's own code fails.
    Raises ImportFailed where the model cannot be imported.

    Values are converted as pydantic does without `strict` ("3" to 3). Fields may be named by their aliases, as in a reply, or
    by their names, as in a program; the result has the names.
    """
    of = load(model)
    try:
        found = of.model_validate(value, by_alias=True, by_name=True)  # type: ignore[attr-defined]
        return found.model_dump(mode="json", by_alias=False), None
    except Exception as error:  # of a validator of the user too, of which pydantic passes on all but ValueError
        errors = error.errors() if isinstance(error, ValueError) and hasattr(error, "errors") else ()
        if not errors:
            return value, str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        place = ".".join(map(str, errors[0]["loc"]))
        return value, f"field {place}: {errors[0]['msg']}" if place else str(errors[0]["msg"])


def aliased(model: Any, value: Any) -> Any:
    """Return a value as plain values with its fields under the model's aliases, as its schema has them, without fields that
    it does not set; a value that the model refuses is returned unchanged. Raises ImportFailed."""
    of = load(model)
    try:
        found = of.model_validate(value, by_alias=True, by_name=True)  # type: ignore[attr-defined]
        return found.model_dump(mode="json", by_alias=True, exclude_unset=True)
    except Exception:  # the check of the value says what is wrong
        return value


def has_aliases(model: Any) -> bool:
    """Return whether the model that a PythonReference names, or a model within it, has a field with an alias. Raises
    ImportFailed."""
    found = load(model)
    return bool(found.model_json_schema(by_alias=True) != found.model_json_schema(by_alias=False))  # type: ignore[attr-defined]


def aliases(model: Any) -> dict[str, str]:
    """Return the field names of a model (a PythonReference) by alias, of its own fields and not of models within it. Raises
    ImportFailed."""
    fields = load(model).model_fields.items()  # type: ignore[attr-defined]
    return {
        alias: name
        for name, field in fields
        for alias in (field.validation_alias, field.alias, field.serialization_alias)
        if isinstance(alias, str) and alias != name
    }


def is_closed(part: Any) -> bool:
    """Return whether a JSON schema, or a part of one, names and requires all fields of its objects, as strict structured
    output wants: False for an object without named properties, True for `{}`. `additionalProperties` is not looked at."""
    if isinstance(part, list):
        return all(map(is_closed, part))
    if not isinstance(part, Mapping):
        return True
    named = part.get("properties")
    if named is not None and set(named) != set(part.get("required", ())):
        return False
    if part.get("type") == "object" and named is None:
        return False
    inner = [
        *(named or {}).values(),
        *(value for key, value in part.items() if key in ("items", "anyOf", "allOf", "oneOf")),
    ]
    return all(map(is_closed, inner))


def _written_out(part: Any, known: Mapping[str, Any], depth: int, closed: bool = True) -> Any:
    if isinstance(part, list):
        return [_written_out(item, known, depth, closed) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        if depth > MAX_DEPTH:
            return {}
        named = known.get(part["$ref"].rpartition("/")[2], {})
        beside = {key: value for key, value in part.items() if key != "$ref"}
        return {**_written_out(named, known, depth + 1, closed), **beside}
    schema: dict[str, Any] = {}
    for key, value in part.items():
        if key == "properties":
            schema[key] = {name: _written_out(inner, known, depth, closed) for name, inner in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            schema[key] = value
        elif key not in ("title", "$defs"):  # a title repeats the name
            schema[key] = _written_out(value, known, depth, closed)
    if closed and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema
