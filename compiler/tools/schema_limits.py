"""The parts of a tool's JSON schema for which the language has no type, so that they have type `json`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lmprog.compiler.tools.openapi import resolve
from lmprog.compiler.tools.schemas import MAX_DEPTH, merged, schema_type
from lmprog.compiler.types.lattice import JSON, without_none

_SAYS_NOTHING = frozenset({
    "type", "title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly", "nullable", "$ref",
    "$schema", "$defs", "$id", "$comment",
})  # fmt: skip
"""Keywords of a JSON schema that a type of the language expresses, or that constrain no value."""


def untyped(schema: Any, document: dict[str, Any], path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the path of each part of a JSON schema that has no type of this language, and the keyword at fault in words,
    such as "`patternProperties`", or that parts are too deep within each other; nothing for a schema that is no mapping.

    `path` is the name of `schema` itself, to which those of its parts are added (`order.lines[]`), `document` the
    schema in which its references are looked up, and `depth` the level of nesting so far. Parts whose schema says
    nothing are not listed.
    """
    resolved = resolve(schema, document) if isinstance(schema, dict) else None
    if not isinstance(resolved, dict):
        return
    if depth > MAX_DEPTH:
        yield path, "more than eight parts within each other"
        return
    resolved = merged(resolved, document)
    if without_none(schema_type(resolved, document)) == JSON:
        said = [key for key in resolved if key not in _SAYS_NOTHING and resolved[key] not in (True, None)]
        kinds = resolved.get("type")
        if said or (isinstance(kinds, list) and len(kinds) > 1):
            yield path, f"`{said[0] if said else 'type'}`"
        return
    for part in [resolved[name] for name in ("anyOf", "oneOf") if isinstance(resolved.get(name), list)]:
        for one in part:
            yield from untyped(one, document, path, depth + 1)
    if resolved.get("type") == "array":
        yield from untyped(resolved.get("items"), document, f"{path}[]", depth + 1)
    properties = resolved.get("properties")
    for name, part in properties.items() if isinstance(properties, dict) else ():
        yield from untyped(part, document, f"{path}.{name}" if path else name, depth + 1)
