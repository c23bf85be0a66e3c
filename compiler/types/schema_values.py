"""Made-up values for JSON schemas, within their bounds and formats, for runs without a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "name@example.com",
    "idn-email": "name@example.com",
    "uri": "https://example.com/",
    "uri-reference": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "json-string": "{}",
}
_NUMBERS = ("integer", "number")


def schema_value(name: str, schema: Mapping[str, Any]) -> Any:
    """Return a made-up value that fits a JSON schema without references: its constant, its first enum value or example,
    else one within its bounds and of its format. A text without these, also of a schema that says no type, is `(name)`,
    for the field's name; optional values are there, and patterns and defaults are ignored.
    """
    if "const" in schema:
        return schema["const"]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            parts = [part for part in schema[key] if part.get("type") != "null"]
            return schema_value(name, parts[0]) if parts else None
    if "allOf" in schema:
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            merged |= part
        return schema_value(name, merged)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind == "object":
        return {field: schema_value(field, inner) for field, inner in schema.get("properties", {}).items()}
    if kind == "array":
        if "prefixItems" in schema:
            return [schema_value(name, inner) for inner in schema["prefixItems"]]
        return [schema_value(name, schema.get("items", {}))] * min(
            max(1, schema.get("minItems", 0)), schema.get("maxItems", math.inf)
        )
    if kind in _NUMBERS:
        return _number(schema, kind == "integer")
    if kind == "string":
        text = _FORMATS.get(schema.get("format", ""), f"({name})")
        return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
    return True if kind == "boolean" else None


def _number(schema: Mapping[str, Any], whole: bool) -> float:
    """Return 1, or 0.5 where it may be a fraction; where the bounds or `multipleOf` do not allow that, a number near one of
    the bounds; 1 or 0.5 after all where none fits."""
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    low = max(schema.get("minimum", -math.inf), -math.inf if above is None else above)
    high = min(schema.get("maximum", math.inf), math.inf if below is None else below)
    step = schema.get("multipleOf") or (1 if whole else min(1.0, (high - low) / 2) or 1.0)
    tried = [1 if whole else 0.5]
    tried += [math.ceil(low / step) * step + more for more in (0, step) if math.isfinite(low)]
    tried += [math.floor(high / step) * step - less for less in (0, step) if math.isfinite(high)]
    tried += [low, high]
    fitting = (
        number
        for number in tried
        if low <= number <= high and number not in (above, below) and _is_multiple(number, schema)
    )
    found = next(fitting, tried[0])
    return int(found) if whole else found


def _is_multiple(number: float, schema: Mapping[str, Any]) -> bool:
    of = schema.get("multipleOf")
    return of is None or math.isclose(number / of, round(number / of))
