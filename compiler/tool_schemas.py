"""The parameters of http and mcp tools, from what the spec, an OpenAPI description or an MCP schema says."""

from __future__ import annotations

import json
from typing import Any

import yaml

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings import suggestion
from lmprog.compiler.plan import Field
from lmprog.compiler.source import Mapping
from lmprog.compiler.type_syntax import TypeReader
from lmprog.compiler.types import BOOL, FLOAT, INT, JSON, STR, UNKNOWN, Enum, ListOf, Object, Optional, Type

Declared = tuple[dict[str, Field], Type, bool]
"""Parameters, type of the result, and whether these are all parameters."""


def declared(draft: Draft, types: TypeReader, id: str, kind: str, node: Mapping) -> Declared:
    """What an http or mcp tool takes and returns."""
    if kind == "mcp":
        return _mcp(draft, id, node)
    if node.get("openapi") is not None:
        return _openapi(draft, id, node)
    if node.get("url") is None and "url" not in node.dropped:
        draft.report.add("LMP101", node.place, f"the http tool `{id}` needs `url`, or `openapi` and `operation`")
    inputs = types.fields(node.map("inputs"), f"input of tool `{id}`:")
    output = node.get("output")
    result = types.type(output, f"output of tool `{id}`") if output is not None else JSON
    return inputs, result, node.get("inputs") is not None


def _document(draft: Draft, id: str, node: Mapping, key: str) -> Any:
    path = draft.file(node.entries[key], f"`{key}` of tool `{id}`")
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        draft.report.add("LMP103", node.entries[key].place, f"tool `{id}`: cannot read {path.name}: {error}")
        return None


def _mcp(draft: Draft, id: str, node: Mapping) -> Declared:
    if node.get("schema") is None:
        return {}, JSON, False
    schema = _document(draft, id, node, "schema")
    if not isinstance(schema, dict):
        return {}, JSON, False
    schema = schema.get("inputSchema", schema)
    return schema_fields(schema), JSON, schema.get("additionalProperties") is not True


def _openapi(draft: Draft, id: str, node: Mapping) -> Declared:
    document = _document(draft, id, node, "openapi")
    wanted = node.value("operation")
    if not isinstance(document, dict):
        return {}, UNKNOWN, False
    operations = {
        operation["operationId"]: operation
        for path in document.get("paths", {}).values()
        if isinstance(path, dict)
        for operation in path.values()
        if isinstance(operation, dict) and "operationId" in operation
    }
    operation = operations.get(wanted)
    if operation is None:
        place = node.entries["operation"].place if "operation" in node.entries else node.place
        fix = suggestion(str(wanted), operations, "operations")
        draft.report.add("LMP103", place, f"tool `{id}` names the operation `{wanted}`, which does not exist", fix=fix)
        return {}, UNKNOWN, False
    parameters: dict[str, Field] = {}
    for parameter in operation.get("parameters", ()):
        parameter = _resolve(parameter, document)
        kind = schema_type(_resolve(parameter.get("schema", {}), document), document)
        required = bool(parameter.get("required"))
        parameters[parameter["name"]] = Field(kind, parameter.get("description"), has_default=not required)
    body = _resolve(operation.get("requestBody", {}), document).get("content", {}).get("application/json", {})
    if body:
        parameters |= schema_fields(_resolve(body.get("schema", {}), document), document)
    return parameters, _response(operation, document), True


def _response(operation: dict[str, Any], document: dict[str, Any]) -> Type:
    for status, response in operation.get("responses", {}).items():
        if str(status).startswith("2"):
            content = _resolve(response, document).get("content", {})
            if "application/json" in content:
                return schema_type(_resolve(content["application/json"].get("schema", {}), document), document)
            return STR
    return JSON


def _resolve(part: Any, document: dict[str, Any]) -> dict[str, Any]:
    for _ in range(8):
        if not isinstance(part, dict) or "$ref" not in part:
            break
        found: Any = document
        for key in str(part["$ref"]).removeprefix("#/").split("/"):
            found = found.get(key, {}) if isinstance(found, dict) else {}
        part = found
    return part if isinstance(part, dict) else {}


def schema_fields(schema: dict[str, Any], document: dict[str, Any] | None = None) -> dict[str, Field]:
    """The properties of a JSON schema of an object."""
    required = set(schema.get("required", ()))
    return {
        name: Field(
            schema_type(_resolve(part, document or {}), document),
            part.get("description") if isinstance(part, dict) else None,
            has_default=name not in required,
        )
        for name, part in schema.get("properties", {}).items()
    }


def schema_type(schema: dict[str, Any], document: dict[str, Any] | None = None, depth: int = 0) -> Type:
    """The type that a JSON schema describes; json for what the language has no type for."""
    if depth > 8:
        return JSON
    values = schema.get("enum")
    if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
        return Enum(tuple(values))
    kind = schema.get("type")
    if isinstance(kind, list):
        rest = [name for name in kind if name != "null"]
        inner = schema_type({**schema, "type": rest[0]}, document, depth + 1) if len(rest) == 1 else JSON
        return Optional(inner) if len(rest) < len(kind) else inner
    if kind == "array":
        return ListOf(schema_type(_resolve(schema.get("items", {}), document or {}), document, depth + 1))
    if kind == "object" and schema.get("properties"):
        required = set(schema.get("required", ()))
        fields = []
        for name, part in schema["properties"].items():
            inner = schema_type(_resolve(part, document or {}), document, depth + 1)
            fields.append((name, inner if name in required else Optional(inner)))
        return Object(tuple(fields))
    return {"string": STR, "integer": INT, "number": FLOAT, "boolean": BOOL}.get(str(kind), JSON)
