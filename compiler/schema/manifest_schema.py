"""The JSON schema of manifest.json, for programs that read it."""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string"}
MAYBE_TEXT = {"type": ["string", "null"]}
FLAG = {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}


def _record(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object that has exactly these keys."""
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _map(value: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with any keys, all of whose values fit `value`."""
    return {"type": "object", "additionalProperties": value}


def _maybe(value: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value that fits `value` or is null."""
    return {"anyOf": [value, {"type": "null"}]}


def manifest_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of manifest.json, to which `artefacts.manifest.manifest` keeps.

    A change that breaks a reader of manifests increments `manifest_version`; a new key does not.
    """
    fields = _map(_record(type=TEXT, schema={"type": "object"}, about=MAYBE_TEXT, private=FLAG, required=FLAG))
    texts = _map(TEXT)
    adapter = _maybe(_record(path=TEXT, sha256=MAYBE_TEXT, base=MAYBE_TEXT))
    loop = _record(
        at_most=TEXT,
        until=MAYBE_TEXT,
        state=texts,
        steps={"type": "array", "items": {"$ref": "#/$defs/step"}},
        next=_map({"type": "object", "additionalProperties": TEXT, "minProperties": 1, "maxProperties": 1}),
    )
    step = {
        "type": "object",
        "properties": {
            "id": TEXT,
            "path": TEXT,
            "after": {"type": "array", "items": TEXT},
            "module": TEXT,
            "tool": TEXT,
            "program": TEXT,
            "value": TEXT,
            "repeat": loop,
            "with": texts,
            "outputs": texts,
            "when": MAYBE_TEXT,
            "foreach": MAYBE_TEXT,
        },
        "required": ["after", "foreach", "id", "outputs", "path", "when"],
        "additionalProperties": False,
    }
    properties = {
        "manifest_version": {"const": 1},
        "name": TEXT,
        "description": MAYBE_TEXT,
        "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "inputs": fields,
        "outputs": _map(_record(**{"type": TEXT, "schema": {"type": "object"}, "from": TEXT})),
        "lms": _map(
            _record(
                model=TEXT,
                params={"type": "object"},
                trusted=FLAG,
                runs_here=FLAG,
                weights=MAYBE_TEXT,
                adapter=adapter,
                balance={"type": "array", "items": TEXT},
                fallback={"type": "array", "items": TEXT},
            )
        ),
        "tools": _map(
            _record(
                kind=TEXT,
                python=MAYBE_TEXT,
                parameters=fields,
                result=TEXT,
                type=TEXT,
                trusted=FLAG,
                effects={"enum": ["read", "write"]},
            )
        ),
        "modules": _map(
            _record(
                lm=TEXT,
                inputs=fields,
                outputs=fields,
                format={"enum": ["text", "fields", "json"]},
                decoding={"enum": ["free", "constrained"]},
                instructions=MAYBE_TEXT,
                demos=COUNT,
                nearest=_maybe(COUNT),
                tools={"type": "array", "items": TEXT},
                adapter=adapter,
            )
        ),
        "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
        "data": _map(
            _record(
                path=MAYBE_TEXT,
                hf=MAYBE_TEXT,
                columns=texts,
                where={"type": "object"},
                limit=_maybe(COUNT),
                share=_maybe({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}),
            )
        ),
        "metrics": _map(
            _record(
                **{
                    "kind": {"enum": ["python", "program", "value"]},
                    "python": MAYBE_TEXT,
                    "program": MAYBE_TEXT,
                    "value": MAYBE_TEXT,
                    "with": texts,
                    "range": {"type": "array", "items": {"type": "number"}},
                }
            )
        ),
        "optimize": _maybe({"type": "object"}),
        "bounds": _record(lm_calls=_map(COUNT), total=COUNT, bounded=FLAG),
        "tuned": _maybe({"type": "object"}),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "manifest-1.json",
        "title": "lmprog manifest",
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "$defs": {"step": step},
    }
