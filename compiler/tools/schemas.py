"""The parameters of http and mcp tools, from the spec, an OpenAPI description or an MCP schema."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import Report, suggestion
from lmprog.compiler.plan import Field
from lmprog.compiler.tools.openapi import WHOLE_BODY, Operation, argument, operations, resolve
from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    INT,
    JSON,
    STR,
    UNKNOWN,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
    join,
    type_of,
)
from lmprog.compiler.types.syntax import TypeReader
from lmprog.compiler.yaml.files import NotRead, read_text
from lmprog.compiler.yaml.reader import parse
from lmprog.compiler.yaml.source import Mapping, Scalar, Source


@dataclass(frozen=True)
class Declared:
    """The parameters (by name), result type and description (`about`, None: none) of a tool; `known` is False where it may
    take arguments that are not among `parameters`.

    `operation` is that of the OpenAPI description that the tool names (None: it names none).
    """

    parameters: dict[str, Field]
    result: Type
    known: bool = True
    about: str | None = None
    operation: Operation | None = None
    reads: bool = False
    """True if the tool's description declares that it changes nothing."""


def declared(draft: Draft, types: TypeReader, id: str, node: Mapping) -> Declared:
    """Return the parameters and result of the http tool `id`, from its own keys or from the OpenAPI description that it
    names; mistakes become findings. `node` is what is below `http`, and `types` reads the types that are declared there.

    Without `inputs` or `openapi` the parameters are not known, and the result is `json` where no `output` is written;
    where the description has no such operation, neither is known.
    """
    result = written_result(types, id, node)
    if node.get("openapi") is not None:
        return _openapi(draft, id, node, result)
    if node.get("url") is None and "url" not in node.dropped:
        draft.report.add("LMP101", node.place, f"the http tool `{id}` needs `url`, or `openapi` and `operation`")
    inputs = types.fields(node.map("inputs"), f"input of tool `{id}`:")
    for name, field in inputs.items():
        written = node.map("inputs")
        entry = written.get(name) if written is not None else None
        for key in ("private", "declassify"):
            if getattr(field, key) not in (False, None) and isinstance(entry, Mapping):
                message = f"`{key}` has no meaning for the input `{name}` of tool `{id}`"
                fix = "say of the tool whether it is trusted:"
                draft.report.add("LMP101", entry.key_place(key), message, fix=fix)
    _placeholders(draft, id, node, inputs)
    return Declared(inputs, result or JSON, known=node.get("inputs") is not None)


def written_result(types: TypeReader, id: str, node: Mapping) -> Type | None:
    """Return the type that the key `output` in the options `node` of the tool `id` writes; None where it is absent."""
    output = node.get("output")
    return types.type(output, f"output of tool `{id}`") if output is not None else None


def _placeholders(draft: Draft, id: str, node: Mapping, inputs: dict[str, Field]) -> None:
    """Report a `{name}` in the address of the http tool `id` that is none of its inputs, unless the address has an
    expression, or inputs have findings of their own."""
    url = node.get("url")
    if not isinstance(url, Scalar) or "${{" in url.text or (node.map("inputs") or node).dropped:
        return
    for name in re.findall(r"{([^{}]*)}", str(url.value)):
        if name not in inputs:
            message = f"the address of tool `{id}` has {{{name}}}, which is no input of it"
            draft.report.add("LMP604", url.place, message, fix=suggestion(name, inputs, "inputs"))


def read_document(draft: Draft, id: str, node: Mapping, key: str) -> Any:
    """Return the document, a dictionary or a list, in the JSON or YAML file that the key `key` of the tool `id` names;
    None, with a finding, where it cannot be read or holds something else. `node` holds the tool's options."""
    path = draft.file(node.entries[key], f"`{key}` of tool `{id}`")
    if path is None:
        return None
    place = node.entries[key].place
    try:
        found = _document(path, read_text(path, draft.options.root))
    except NotRead as error:
        draft.report.add("LMP103", place, f"tool `{id}`: cannot read {path.name}: {error}")
        return None
    except (ValueError, RecursionError):
        kind = "not JSON" if path.suffix == ".json" else "not YAML that can be read"
        draft.report.add("LMP103", place, f"tool `{id}`: {path.name} is {kind}")
        return None
    if not isinstance(found, dict | list):
        draft.report.add(
            "LMP103", place, f"tool `{id}`: {path.name} describes no tool: it holds neither keys nor a list"
        )
        return None
    return found


def _document(path: Path, text: str) -> Any:
    """Return the document in the text of a file, as JSON where its name ends in `.json`, else as YAML. Raises ValueError
    where it cannot be read."""
    if path.suffix == ".json":
        return json.loads(text)
    unread = Report()
    found = parse(Source(path, path.name, text, path.parent), unread)
    if found is None or unread.failed:
        raise ValueError
    return found.plain()


def _openapi(draft: Draft, id: str, node: Mapping, result: Type | None) -> Declared:
    """Return the parameters and result of the operation that the http tool `id` names in its OpenAPI description; with a
    finding, a tool of unknown parameters where there is none. `result` is the type under `output` (None: none)."""
    document = read_document(draft, id, node, "openapi")
    wanted = node.value("operation")
    if not isinstance(document, dict):
        if document is not None:
            message = f"tool `{id}`: a list is no OpenAPI description"
            draft.report.add("LMP103", node.entries["openapi"].place, message)
        return Declared({}, UNKNOWN, known=False)
    known = operations(document)
    operation = known.get(wanted)
    if operation is None:
        place = node.entries["operation"].place if "operation" in node.entries else node.place
        fix = suggestion(str(wanted), known, "operations")
        draft.report.add("LMP103", place, f"tool `{id}` names the operation `{wanted}`, which does not exist", fix=fix)
        return Declared({}, UNKNOWN, known=False)
    names = {place: name for name, place in operation.places.items()}
    parameters = {
        names[part["in"], str(part["name"])]: _field(
            part.get("schema", {}), part.get("description"), bool(part.get("required")), document
        )
        for part in operation.parameters
    }
    if operation.whole_body:
        parameters[names["body", WHOLE_BODY]] = Field(schema_type(dict(operation.body), document))
    elif operation.body:
        fields = schema_fields(dict(operation.body), document)
        parameters |= {names.get(("body", name), argument(name)): field for name, field in fields.items()}
    return Declared(parameters, result or _response(operation, document), about=operation.about, operation=operation)


def _response(operation: Operation, document: dict[str, Any]) -> Type:
    """Return the type of the first successful response of an operation: that of its JSON, else str; `json` without one."""
    for status, response in operation.responses.items():
        if str(status).startswith("2"):
            content = resolve(resolve(response, document).get("content"), document)
            if "application/json" in content:
                schema = resolve(content["application/json"], document).get("schema")
                return schema_type(resolve(schema, document), document)
            return STR
    return JSON


def _field(schema: Any, about: Any, required: bool, document: dict[str, Any]) -> Field:
    """Return the parameter that a JSON schema describes; `about` is its description, or another value, which is dropped."""
    return Field(
        schema_type(resolve(schema, document), document),
        about if isinstance(about, str) else None,
        has_default=not required,
        schema=_written_out(schema, document, 0) if isinstance(schema, dict | bool) else {},
    )


def schema_fields(schema: dict[str, Any], document: dict[str, Any] | None = None) -> dict[str, Field]:
    """Return the properties of a JSON schema of an object, its `allOf` included, as fields by name, each with its own
    schema in which references are written out. A property that is not required has the default None, whatever default
    its schema names; empty without properties.

    `document` is the whole description that references (`$ref`) point into; None: they lead nowhere.
    """
    document = document or {}
    schema = merged(schema, document)
    required = _required(schema)
    return {
        str(name): _field(part, part.get("description") if isinstance(part, dict) else None, name in required, document)
        for name, part in _properties(schema).items()
    }


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of a schema, which may come from anyone; none where they are no mapping."""
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _required(schema: dict[str, Any]) -> list[str]:
    """Return the names of the required properties; none where they are no list of names."""
    found = schema.get("required")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


class _Left:
    """A count of the parts of one schema that may still be read, from MAX_PARTS down: parts that refer to each other could
    go on without end."""

    def __init__(self) -> None:
        self.parts = MAX_PARTS

    def take(self) -> bool:
        """Take one part; return False where none is left."""
        self.parts -= 1
        return self.parts >= 0


def schema_type(
    schema: dict[str, Any], document: dict[str, Any] | None = None, depth: int = 0, left: _Left | None = None
) -> Type:
    """Return the type for a JSON schema; `json` where the language has no type for it, and for parts deeper than
    MAX_DEPTH (8) or beyond the first MAX_PARTS (2000). A property that is not required has an optional type. Bounds and
    formats have no type, and are dropped.

    `document` is where its references are looked up (None: they lead nowhere); a `$ref` at the top of `schema` itself is
    for the caller to resolve. `depth` is the level of nesting so far, and `left` counts the parts (None: none is read yet).
    """
    left = left or _Left()
    if depth > MAX_DEPTH or not left.take():
        return JSON
    schema = merged(schema, document or {})
    if schema.get("nullable") is True:
        return _optional(schema_type({**schema, "nullable": False}, document, depth + 1, left))
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        return _values_type(values)
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), list):
            parts = [resolve(part, document or {}) for part in schema[name]]
            kinds = [schema_type(part, document, depth + 1, left) for part in parts if part.get("type") != "null"]
            inner = _common(kinds)
            return _optional(inner) if len(kinds) < len(parts) else inner
    kind = schema.get("type")
    if isinstance(kind, list):
        rest = [name for name in kind if name != "null"]
        kinds = [schema_type({**schema, "type": name}, document, depth + 1, left) for name in rest]
        inner = _common(kinds)
        return _optional(inner) if len(rest) < len(kind) else inner
    if kind == "array":
        return ListOf(schema_type(resolve(schema.get("items", {}), document or {}), document, depth + 1, left))
    if kind in ("object", None) and _properties(schema):
        required = _required(schema)
        fields = []
        for name, part in _properties(schema).items():
            inner = schema_type(resolve(part, document or {}), document, depth + 1, left)
            fields.append((name, inner if name in required else _optional(inner)))
        return Object(tuple(fields))
    return {"string": STR, "integer": INT, "number": FLOAT, "boolean": BOOL}.get(str(kind), JSON)


MAX_DEPTH = 8
"""Maximum depth of the parts of a schema within each other that are read."""
MAX_PARTS = 2000
"""Maximum parts of one schema that are read."""


def _common(kinds: list[Type]) -> Type:
    """Return the type that takes the values of all `kinds`; json where there is none, and for an empty list."""
    found = kinds[0] if kinds else JSON
    for kind in kinds[1:]:
        found = join(found, kind) or JSON
    return found


def _optional(kind: Type) -> Type:
    """Return a type that takes null too; json does so already."""
    return kind if isinstance(kind, Optional) or kind == JSON else Optional(kind)


def _values_type(values: list[Any]) -> Type:
    """Return the type of the values that a schema lists: an enum of texts, the type of numbers or flags, or json where
    they have none in common; optional where null is among them."""
    given = [value for value in values if value is not None]
    if not given:
        return JSON
    if all(isinstance(value, str) for value in given):
        kind: Type = Enum(tuple(dict.fromkeys(given)))
    else:
        kind = _common([type_of(value) for value in given])
    return _optional(kind) if len(given) < len(values) else kind


def merged(schema: dict[str, Any], document: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return a JSON schema with the parts of its `allOf` merged in, at any depth: all properties, all required names, and of
    any other key, as of a property that stands twice, the last value; those of the schema itself come first. A schema
    without `allOf`, or deeper than MAX_DEPTH, is returned as it is.

    References of the parts are looked up in `document`; `depth` is the level of nesting so far.
    """
    parts = schema.get("allOf")
    if not isinstance(parts, list) or depth > MAX_DEPTH:
        return schema
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    for part in parts:
        found = merged(resolve(part, document), document, depth + 1)
        properties = {**_properties(whole), **_properties(found)}
        required = [*_required(whole), *_required(found)]
        whole = {**whole, **found}
        if properties:
            whole["properties"] = properties
        if properties or required:
            whole["required"] = list(dict.fromkeys(required))
    return whole


def _written_out(part: Any, document: dict[str, Any], depth: int, left: _Left | None = None) -> Any:
    """Return a part of a schema with its references replaced by what they name, at every depth; `{}`, which takes any
    value, where references lead to themselves or parts are too many. `left` None: no part is read yet."""
    left = left or _Left()
    if isinstance(part, list):
        return [_written_out(item, document, depth, left) for item in part]
    if not isinstance(part, dict):
        return part
    if depth > MAX_DEPTH or not left.take():
        return {}
    if "$ref" in part:
        return _written_out(resolve(part, document), document, depth + 1, left)
    found = {key: _written_out(value, document, depth, left) for key, value in part.items()}
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(found.get(key), bool):  # as OpenAPI 3.0 has it: a flag beside the bound
            flag, least = found.pop(key), found.get(bound)
            found |= {key: least} if flag and isinstance(least, int | float) else {}
    return found
