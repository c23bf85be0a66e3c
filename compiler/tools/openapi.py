"""Operations of an OpenAPI description (version 3): the request of each, and where its parameters go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
WHOLE_BODY = "body"
"""The name of the parameter that is the whole body, where the body is no object with named properties."""

Part = Literal["path", "query", "header", "cookie", "body"]


@dataclass(frozen=True)
class Operation:
    """An operation of an OpenAPI description: method, address, description (`about`, None: none), parameters, body and
    responses.

    `{name}` in `url` is filled from the path's parameters; `places` has for each argument the part of the request and
    the name there; with `whole_body` the body is one argument.
    """

    method: str
    url: str | None
    """With the first server's address; None where the description names no absolute one."""
    path: str
    places: Mapping[str, tuple[Part, str]] = field(default_factory=dict)
    """The location of each argument in the request, and its name there."""
    whole_body: bool = False
    about: str | None = None
    parameters: tuple[Mapping[str, Any], ...] = ()
    """The parameters of the description, with references resolved."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The schema of the JSON body."""
    responses: Mapping[str, Any] = field(default_factory=dict)


def operations(document: Mapping[str, Any]) -> dict[str, Operation]:
    """Return the operations of an OpenAPI description by their operationId."""
    found = {}
    for path, item in _mapping(document.get("paths")).items():
        item = resolve(item, document)
        for method in METHODS:
            operation = item.get(method)
            if isinstance(operation, dict) and "operationId" in operation:
                found[str(operation["operationId"])] = _operation(document, str(path), method, item, operation)
    return found


def resolve(part: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping that `part` is, or that its `$ref` names in the document; empty where there is none."""
    for _ in range(8):
        if not isinstance(part, dict) or "$ref" not in part:
            break
        found: Any = document
        for key in str(part["$ref"]).removeprefix("#").split("/")[1:]:
            found = found.get(key, {}) if isinstance(found, dict) else {}
        part = found
    return part if isinstance(part, dict) else {}


def argument(name: object) -> str:
    """Return the argument name of a parameter whose name is no identifier: `X_Trace` for the header `X-Trace`."""
    return re.sub(r"\W", "_", str(name))


def _operation(
    document: Mapping[str, Any], path: str, method: str, item: dict[str, Any], operation: dict[str, Any]
) -> Operation:
    described = [*item.get("parameters", ()), *operation.get("parameters", ())]
    # One of the operation stands for one of the path of the same name and place.
    parameters = {(part.get("name"), part.get("in")): part for part in (resolve(part, document) for part in described)}
    places: dict[str, tuple[Part, str]] = {
        argument(name): (place, str(name))  # type: ignore[misc]
        for name, place in parameters
        if name and place
    }
    content = _mapping(resolve(operation.get("requestBody", {}), document).get("content"))
    body = resolve(_mapping(content.get("application/json")).get("schema", {}), document)
    whole = "application/json" in content and not body.get("properties")
    if whole:
        places[WHOLE_BODY] = ("body", WHOLE_BODY)
    else:
        places |= {argument(name): ("body", str(name)) for name in body.get("properties", {})}
    servers = operation.get("servers") or item.get("servers") or document.get("servers") or ()
    return Operation(
        method.upper(),
        _address(servers[0], path) if servers else None,
        path,
        places,
        whole,
        operation.get("summary") or operation.get("description"),
        tuple(part for part in parameters.values() if part.get("name")),
        body,
        _mapping(operation.get("responses")),
    )


def _address(server: Any, path: str) -> str | None:
    server = _mapping(server)
    address = str(server.get("url", ""))
    for name, variable in _mapping(server.get("variables")).items():
        address = address.replace(f"{{{name}}}", str(_mapping(variable).get("default", "")))
    return address.rstrip("/") + path if "://" in address else None


def _mapping(part: Any) -> dict[str, Any]:
    return part if isinstance(part, dict) else {}
