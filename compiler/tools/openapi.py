"""Operations of an OpenAPI description (version 3): the request of each, and where its parameters go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
WHOLE_BODY = "body"
"""The name of the parameter that is the whole body, where the body is no object with named properties."""

Part = Literal["path", "query", "header", "cookie", "body"]


@dataclass(frozen=True)
class Operation:
    """An operation of an OpenAPI description: its method in capitals, its address, its summary or description (`about`,
    None: neither), its parameters, the JSON schema of its body (empty: none), and its responses by status.

    `path` and `url` hold `{name}` for each parameter of the path. `places` has, by the name of each argument of the
    tool, the part of the request that it fills and its name there; with `whole_body` the whole JSON body is one
    argument.
    """

    method: str
    url: str | None
    """With the first server's address; None where the description names no absolute one."""
    path: str
    places: Mapping[str, tuple[Part, str]] = field(default_factory=dict)
    """The part of the request that each argument fills, and its name there."""
    whole_body: bool = False
    about: str | None = None
    parameters: tuple[Mapping[str, Any], ...] = ()
    """The parameters of the description, with references resolved."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The schema of the JSON body."""
    responses: Mapping[str, Any] = field(default_factory=dict)


def operations(document: Mapping[str, Any]) -> dict[str, Operation]:
    """Return the operations of an OpenAPI description by their operationId (the last of several with one id); those
    without one are left out, and so are parts of the description that are not of the right form."""
    found = {}
    for path, item in _mapping(document.get("paths")).items():
        item = resolve(item, document)
        for method in METHODS:
            operation = item.get(method)
            if isinstance(operation, dict) and "operationId" in operation:
                found[str(operation["operationId"])] = _operation(document, str(path), method, item, operation)
    return found


def resolve(part: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping that `part` is, or that its `$ref` (such as `#/components/schemas/Order`) names in `document`,
    not a copy of it.

    At most eight references that lead to each other are followed; of more the ninth is returned as it is. The result is
    empty where `part` is no mapping, or the reference leads nowhere or into another file.
    """
    for _ in range(8):
        if not isinstance(part, dict) or "$ref" not in part:
            break
        part = _named(str(part["$ref"]), document)
    return part if isinstance(part, dict) else {}


def _named(reference: str, document: Mapping[str, Any]) -> Any:
    """Return the part of a document that a reference names; None where it names none, or a part of another file."""
    file, _, pointer = reference.partition("#")
    found: Any = document if not file else None
    for written in pointer.split("/")[1:]:
        key = unquote(written).replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else _item(found, key)
    return found


def _item(found: Any, key: str) -> Any:
    # Python reads no number of more than 4300 digits.
    return (
        found[int(key)]
        if isinstance(found, list) and re.fullmatch("[0-9]{1,9}", key) and int(key) < len(found)
        else None
    )


def argument(name: object) -> str:
    """Return the name of a parameter as the name of an argument, with `_` for each character that is no letter or
    digit: `X_Trace` for the header `X-Trace`."""
    return re.sub(r"\W", "_", str(name))


def _place(places: dict[str, tuple[Part, str]], part: Part, name: str) -> None:
    """Add the argument that fills `name` in a part of the request; a name that is taken gets the part in front, as
    `body_id` where `id` is in the path."""
    free = argument(name)
    while free in places:
        free = f"{part}_{free}"
    places[free] = (part, name)


def _operation(
    document: Mapping[str, Any], path: str, method: str, item: dict[str, Any], operation: dict[str, Any]
) -> Operation:
    described = [resolve(part, document) for of in (item, operation) for part in _list(of.get("parameters"))]
    # One of the operation stands for one of the path of the same name and place.
    parameters = {
        (part["in"], str(part["name"])): part
        for part in described
        if isinstance(part.get("in"), str) and isinstance(part.get("name"), str | int)
    }
    places: dict[str, tuple[Part, str]] = {}
    for part, name in parameters:
        _place(places, part, name)
    content = _mapping(resolve(operation.get("requestBody", {}), document).get("content"))
    body = resolve(_mapping(content.get("application/json")).get("schema", {}), document)
    properties = _mapping(body.get("properties"))
    whole = "application/json" in content and not properties
    for name in (WHOLE_BODY,) if whole else properties:
        _place(places, "body", str(name))
    servers = next((found for of in (operation, item, document) if (found := _list(of.get("servers")))), [])
    said = (operation.get("summary"), operation.get("description"))
    return Operation(
        method.upper(),
        _address(servers[0], path) if servers else None,
        path,
        places,
        whole,
        next((text for text in said if isinstance(text, str) and text), None),
        tuple(parameters.values()),
        body,
        _mapping(operation.get("responses")),
    )


def _address(server: Any, path: str) -> str | None:
    """Return the address of a path on a server, with the defaults of the server's variables; None where the server has
    no whole address."""
    server = _mapping(server)
    address = str(server.get("url", ""))
    for name, variable in _mapping(server.get("variables")).items():
        address = address.replace(f"{{{name}}}", str(_mapping(variable).get("default", "")))
    return address.rstrip("/") + path if "://" in address else None


def _mapping(part: Any) -> dict[str, Any]:
    return part if isinstance(part, dict) else {}


def _list(part: Any) -> list[Any]:
    return part if isinstance(part, list) else []
