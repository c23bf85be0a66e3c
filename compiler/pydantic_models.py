"""What a pydantic model says of its values beyond the types of its fields: its own schema, and its own validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmprog.compiler.python_reference import load

DEEPEST = 8
"""References within each other that are written out; a model that holds itself may be anything beyond."""


def schema(model: Any) -> dict[str, Any]:
    """Return the JSON schema of a model with its descriptions, bounds, formats and defaults, and no references in it."""
    whole = load(model).model_json_schema()  # type: ignore[attr-defined]
    return dict(_written_out(whole, whole.get("$defs", {}), 0))


def validated(model: Any, value: Any) -> tuple[Any, str | None]:
    """Return a value as the model writes it, with its defaults, and None; or the value itself and what is wrong with it."""
    try:
        return load(model).model_validate(value).model_dump(mode="json"), None  # type: ignore[attr-defined]
    except ValueError as error:  # pydantic's ValidationError is one
        errors = error.errors() if hasattr(error, "errors") else ()
        if not errors:
            return value, str(error)
        place = ".".join(map(str, errors[0]["loc"]))
        return value, f"field {place}: {errors[0]['msg']}" if place else str(errors[0]["msg"])


def is_closed(part: Any) -> bool:
    """Return whether a schema names all fields of its objects, and asks for each, as strict structured output wants."""
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


def _written_out(part: Any, known: Mapping[str, Any], depth: int) -> Any:
    if isinstance(part, list):
        return [_written_out(item, known, depth) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        if depth > DEEPEST:
            return {}
        named = known.get(part["$ref"].rpartition("/")[2], {})
        beside = {key: value for key, value in part.items() if key != "$ref"}
        return {**_written_out(named, known, depth + 1), **beside}
    found: dict[str, Any] = {}
    for key, value in part.items():
        if key == "properties":
            found[key] = {name: _written_out(inner, known, depth) for name, inner in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            found[key] = value
        elif key not in ("title", "$defs"):  # a title repeats the name
            found[key] = _written_out(value, known, depth)
    if "properties" in found:
        found.setdefault("additionalProperties", False)
    return found
