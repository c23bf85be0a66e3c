"""The OpenAPI document of a served program: its typed inputs and outputs, and every answer to runs, feedback and probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lmprog.compiler.plan import Field, Plan
from lmprog.compiler.types.lattice import ListOf, Object, Optional, Type, json_schema, mismatch
from lmprog.serving.refusals import AGAIN, KINDS, OF_FEEDBACK
from lmprog.traces.feedback import MAX_COMMENT

STREAM = (
    "Server-sent events, asked for by `Accept: text/event-stream` or `?stream=1`: `text` {path, module, attempt, piece} as "
    "an LM writes (`restart` where what came of that reply is void; with `?stream=fields` `field` {output, piece} in their "
    "place, and `restart` {output}), `record` {path, module, tool, attempt, seconds, failed} "
    "when a call of an LM or tool has ended, and one `result` (as the JSON answer) or `error` at the end."
)


def document(plan: Plan, *, authorized: bool) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a served program, with the paths `/run`, `/runs/{id}/feedback`, `/health` and
    `/ready`; with `authorized` it says that the first two need a bearer key."""
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": plan.name, "version": plan.digest[:12] or "0"},
        "paths": {
            "/run": {"post": _run(plan)},
            "/runs/{id}/feedback": {"post": _feedback()},
            "/health": {"get": _probe("The server is alive.", "alive", {})},
            "/ready": {
                "get": _probe("The LMs are loaded.", "ready", {"503": _json("They are not loaded yet.", _object())})
            },
        },
        "components": {
            "schemas": {
                "Inputs": inputs_schema(plan.inputs),
                "Outputs": outputs_schema(plan),
                "Answer": _object(
                    outputs={"$ref": "#/components/schemas/Outputs"},
                    usage=_object(
                        calls={"type": "integer"},
                        prompt_tokens={"type": "integer"},
                        completion_tokens={"type": "integer"},
                        usd={"type": ["number", "null"], "description": "null where a price is not known"},
                    ),
                    seconds={"type": "number"},
                    id={"type": "string", "description": "as `example` in the server's trace"},
                ),
                "Feedback": feedback_schema(plan),
                "Error": _object(
                    error=_object(
                        kind={"type": "string", "enum": [*KINDS, "request"]},
                        message={"type": "string"},
                        path={"type": ["string", "null"], "description": "the step that failed"},
                    )
                ),
            }
        },
    }
    if plan.description:
        found["info"]["description"] = plan.description
    if authorized:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path in ("/run", "/runs/{id}/feedback"):
            found["paths"][path]["post"]["security"] = [{"key": []}]
    return found


def inputs_schema(inputs: Mapping[str, Field]) -> dict[str, Any]:
    """Return the JSON schema of the body of `POST /run`, an object with exactly the inputs by name; those with a default,
    and those that may be null, may be left out."""
    schema = _object(**{name: _input(field) for name, field in inputs.items()})
    schema["required"] = [
        name for name, field in inputs.items() if not field.has_default and mismatch(None, field.type) is not None
    ]
    return schema


def feedback_schema(plan: Plan) -> dict[str, Any]:
    """Return the JSON schema of the body of `POST /runs/{id}/feedback`: `score`, `comment` and `correction`, at least one of
    them, of which null withdraws an earlier one."""
    correction = _object(**{name: written(kind) for name, kind in plan.output_types.items()})
    about = "the outputs that would have been right; those that were may be left out"
    parts = {
        "score": {"type": "number", "minimum": 0, "maximum": 1, "description": "0: wrong, 1: right"},
        "comment": {"type": "string", "minLength": 1, "maxLength": MAX_COMMENT, "pattern": "\\S"},
        "correction": {**correction, "required": [], "minProperties": 1, "description": about},
    }
    schema = _object(**{name: {"anyOf": [part, {"type": "null"}]} for name, part in parts.items()})
    return {**schema, "required": [], "minProperties": 1}


def outputs_schema(plan: Plan) -> dict[str, Any]:
    """Return the JSON schema of an object with the program's outputs by name, all of them required (an optional one may
    be null).

    That is the field `outputs` of the answer to `POST /run`, which has other fields too, and the whole structured
    result of the MCP tool.
    """
    return _object(**{name: written(kind) for name, kind in plan.output_types.items()})


def written(kind: Type) -> dict[str, Any]:
    """Return the JSON schema of a type in a request or response body, as a dictionary; objects may lack optional fields
    and have additional ones."""
    if isinstance(kind, Optional):
        return {"anyOf": [written(kind.inner), {"type": "null"}]}
    if isinstance(kind, ListOf):
        return {"type": "array", "items": written(kind.item)}
    if isinstance(kind, Object):
        return {
            "type": "object",
            "properties": {name: written(inner) for name, inner in kind.fields},
            "required": [name for name, inner in kind.fields if not isinstance(inner, Optional)],
        }
    return json_schema(kind)


def _input(field: Field) -> dict[str, Any]:
    schema = written(field.type)
    if field.about:
        schema["description"] = field.about
    if field.has_default:
        schema["default"] = field.default
    return schema


def _run(plan: Plan) -> dict[str, Any]:
    answer = _json("The outputs.", {"$ref": "#/components/schemas/Answer"})
    answer["content"]["text/event-stream"] = {}  # no schema: tools read one as that of each event
    return {
        "operationId": "run",
        "summary": f"Run {plan.name} once.",
        "parameters": [
            {
                "name": "stream",
                "in": "query",
                "schema": {"type": "string", "enum": ["0", "1", "fields"]},
                "description": STREAM,
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Inputs"}}},
        },
        "responses": {"200": answer, **_refusals(kind for kind in KINDS if kind not in (*OF_FEEDBACK, "no_model"))},
    }


def _feedback() -> dict[str, Any]:
    body = {"$ref": "#/components/schemas/Feedback"}
    stored = _object(id={"type": "string"}, feedback=body)
    kinds = ("body", "unauthorized", "host", "origin", "slow", "too_large", "media_type", "server", *OF_FEEDBACK)
    return {
        "operationId": "feedback",
        "summary": "Say how good the answer of a run was: a score, a comment, the right outputs.",
        "description": "Later feedback replaces the parts that it has. It is stored beside the trace of the server.",
        "parameters": [
            {
                "name": "id",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "description": "the `id` in the answer of the run, or that of a chat completion",
            }
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": _json("What was stored.", stored), **_refusals(kinds)},
    }


def _refusals(kinds: Iterable[str]) -> dict[str, Any]:
    """Return the error responses of an operation, by HTTP status; kinds with the same status share one."""
    refusals: dict[str, Any] = {}
    for kind in kinds:
        status, said = KINDS[kind]
        refusal = refusals.setdefault(str(status), _json("", {"$ref": "#/components/schemas/Error"}))
        refusal["description"] += f"{'; ' if refusal['description'] else ''}`{kind}`: {said}"
        if kind in AGAIN:
            refusal["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return refusals


def _probe(said: str, operation: str, others: Mapping[str, Any]) -> dict[str, Any]:
    return {"operationId": operation, "responses": {"200": _json(said, _object()), **others}}


def _object(**properties: Any) -> dict[str, Any]:
    """Return the JSON schema of an object with exactly these properties, by name, all of them required; of any object where
    none is given."""
    if not properties:
        return {"type": "object"}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _json(said: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a response whose body is JSON of a schema."""
    return {"description": said, "content": {"application/json": {"schema": schema}}}
