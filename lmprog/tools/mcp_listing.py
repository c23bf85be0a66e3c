"""The tools, resources and prompts that an MCP server lists, and how they differ from its entry in the lock file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmprog.compiler.plan import Tool
from lmprog.compiler.tools.lock_file import KEPT, Entries, Listing, Server, of_lists
from lmprog.compiler.types.lattice import JSON
from lmprog.errors import InfrastructureError, UsageError
from lmprog.tools.environment import evaluated, without_secrets
from lmprog.tools.mcp_session import ADDRESSED, cause, session
from lmprog.tools.tool import TIMEOUT

MAX_PAGES = 100
"""The most pages of a list that are asked for: a server could go on without end."""
_WORDS = {
    "description": "another description",
    "outputSchema": "another result",
    "annotations": "other annotations",
    "arguments": "other arguments",
}
"""The words for a key of an entry that differs; the parameters of a tool are compared one by one."""


async def list_servers(servers: Sequence[Server]) -> list[Listing]:
    """Start or reach MCP servers, and return what each of `servers` lists, in their order; one that several tools name
    in the same way is asked once.

    Raises UsageError where the MCP SDK or an environment variable is missing, and InfrastructureError where a server
    does not answer.
    """
    try:
        import mcp  # noqa: F401 (its absence is told here, before a server is started)
    except ImportError as error:
        raise UsageError(
            f"lmprog tools needs the MCP SDK ({error}); install it with: pip install 'lmprog[mcp]'"
        ) from error
    asked: dict[str, Listing] = {}
    found: list[Listing] = []
    for server in servers:
        how = [server.settings.get(part) for part in ADDRESSED]
        key = json.dumps(how, default=lambda value: getattr(value, "text", str(value)))
        if key not in asked:
            asked[key] = await _ask(server)
        found.append(replace(asked[key], ids=(server.id,)))
    return found


async def _ask(server: Server) -> Listing:
    tool = Tool(server.id, "mcp", None, server.settings, "result", JSON, {})
    settings, hidden = evaluated(tool, server.settings), without_secrets(tool)
    seconds = TIMEOUT if server.timeout is None else server.timeout
    try:
        async with asyncio.timeout(seconds), session(settings, tool) as client:
            return await _listed(server, client)
    except TimeoutError as error:
        said = (
            f"it did not list its tools within {seconds:g} seconds; raise `timeout` of tools.{server.id}, which bounds its "
            "start and its listing too"
        )
        raise InfrastructureError(f"{server.place}: the MCP server of `{server.id}`: {said}") from error
    except Exception as error:
        said = hidden(cause(error))
        raise InfrastructureError(f"{server.place}: the MCP server of `{server.id}` does not answer: {said}") from error


async def _listed(server: Server, client: Any) -> Listing:
    can = client.server_capabilities
    lists: dict[str, list[Any]] = {}
    if can.tools is not None:
        lists["tools"] = await _all(client.list_tools, "tools")
    if can.prompts is not None:
        lists["prompts"] = await _all(client.list_prompts, "prompts")
    if can.resources is not None:
        lists["resources"] = await _all(client.list_resources, "resources")
        lists["templates"] = await _all(client.list_resource_templates, "resource_templates")
    info = client.server_info
    name = f"{info.name} {info.version or ''}".strip() if info is not None else ""
    return of_lists(lists, server=name, reached_by=server.reached_by, ids=(server.id,))


async def _all(ask: Callable[..., Awaitable[Any]], key: str) -> list[Any]:
    """Return the entries of all pages of a list, at most MAX_PAGES (100), as plain values; `key` is the name of the entries
    in a page.
    """
    found: list[Any] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await ask(cursor=cursor)
        found += [entry.model_dump(mode="json", by_alias=True, exclude_none=True) for entry in getattr(page, key)]
        cursor = page.next_cursor
        if not cursor:
            break
    return found


def differences(server: Server, now: Listing) -> list[str]:
    """Return a sentence for each difference between `now`, what a server lists, and `server.locked`, its lock file's entry
    or what its schema file describes.

    Only tools, resources and prompts that the program uses are compared; of a schema file only the keys that it has. A server
    without an entry in the lock file is one difference.
    """
    locked = server.locked
    if server.schema is not None:
        known = locked.tools if locked is not None else {}
        taken = [name for name in known if server.only is None or name in server.only]
        listed = {
            name: {key: entry.get(key) for key in known[name]} for name, entry in now.tools.items() if name in known
        }
        return list(_differing(server, "tool", known, listed, taken))
    if locked is None:
        return [f"the MCP server of `{server.id}` is not in the lock file {server.lock.name}"]
    if "prompt" in server.settings:
        return list(_differing(server, "prompt", locked.prompts, now.prompts, [str(server.settings["prompt"])]))
    if "resource" in server.settings:
        before, after = {**locked.resources, **locked.templates}, {**now.resources, **now.templates}
        return list(_differing(server, "resource", before, after, sorted(before)))
    names = sorted({**locked.tools, **now.tools}) if server.only is None else list(server.only)
    return list(_differing(server, "tool", locked.tools, now.tools, names))


def _differing(server: Server, what: str, before: Entries, after: Entries, names: Any) -> Iterator[str]:
    for name in names:
        if name not in before and name not in after:
            yield f"the MCP server of `{server.id}` has no {what} `{name}`"
        elif name not in after:
            yield f"the MCP server of `{server.id}` has the {what} `{name}` no longer"
        elif name not in before:
            yield f"the MCP server of `{server.id}` has the new {what} `{name}`"
        elif said := ", ".join(_changed(before[name], after[name])):
            yield f"the {what} `{name}` of the MCP server of `{server.id}` has {said}"


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    keys = dict.fromkeys(key for _, kept in KEPT.values() for key in kept)
    for key in keys:
        if before.get(key) == after.get(key):
            continue
        if key == "inputSchema":
            yield f"other parameters ({', '.join(_parameters(before.get(key), after.get(key)))})"
        else:
            yield _WORDS.get(key, f"another `{key}`")


def _parameters(before: Any, after: Any) -> list[str]:
    """Return, for two JSON schemas of a tool's arguments, which parameters are new, gone or changed; `another schema` where
    they differ in something else.
    """
    old, new = _properties(before), _properties(after)
    found = [f"`{name}` is new" for name in new if name not in old] + [
        f"`{name}` is gone" for name in old if name not in new
    ]
    found += [f"`{name}` changed" for name in old if name in new and old[name] != new[name]]
    return found or ["another schema"]


def _properties(schema: Any) -> dict[str, Any]:
    """Return the properties of a JSON schema by name, each with whether it is required; empty for what is no schema of an
    object.
    """
    parts = schema.get("properties") if isinstance(schema, dict) else None
    required = schema.get("required", ()) if isinstance(schema, dict) else ()
    return {name: (part, name in required) for name, part in parts.items()} if isinstance(parts, dict) else {}
