"""The check of a value against the JSON schema of a tool's argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def broken(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return the words (at most 200 characters) for what in a value breaks a JSON schema; None where nothing does, for a
    schema that is itself wrong, and for None where the schema is `nullable`."""
    from jsonschema import Draft202012Validator, FormatChecker

    try:
        error = next(Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(value), None)
    except Exception:  # a schema that is none says nothing, and jsonschema raises much: of patterns, types, references
        return None
    return None if error is None or (value is None and schema.get("nullable") is True) else error.message[:200]
