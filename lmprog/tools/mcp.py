"""Tools of MCP servers: a server is started (stdio) or reached (streamable HTTP) at first use, and kept for the program's life.

The tools of one server share its session. A server that crashed is started again at the next use; a call that only reads is
then made once more. A server that does not start, or ends during both calls, is an outage.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from lmprog.compiler.plan import Tool
from lmprog.compiler.types.lattice import STR, mismatch, without_none
from lmprog.errors import UsageError
from lmprog.tools.connections import Connections
from lmprog.tools.environment import evaluated, without_secrets
from lmprog.tools.mcp_session import ADDRESSED, cause, session
from lmprog.tools.results import checked, first_line, most_bytes, of_text, too_long
from lmprog.tools.tool import ToolFailed, ToolUnreachable, timeout_of

STARTING = 0.9
"""The share of a tool's timeout within which its server starts, or it counts as one that does not."""


def mcp_tool(tool: Tool, connections: Connections) -> Callable[..., Awaitable[Any]]:
    """Return a tool, a resource or a prompt of an MCP server as an async function that takes its arguments by name and
    returns its result. The function raises ToolFailed for a refusal, and ToolUnreachable where the server does not start or
    ends during the call.

    Raises UsageError where the MCP SDK or an environment variable is missing. `connections` holds its connection to the
    server, which equal tools share.
    """
    try:
        from mcp import MCPError
    except ImportError as error:
        raise UsageError(
            f"the tool {tool.id!r} needs the MCP SDK ({error}); install it with: pip install 'lmprog[mcp]'"
        ) from error
    from anyio import BrokenResourceError, ClosedResourceError
    from mcp.types import CONNECTION_CLOSED

    settings = evaluated(tool, tool.settings)
    hidden = without_secrets(tool)
    named = [settings.get(part) for part in ADDRESSED]
    key = json.dumps([*named, tool.answer_mb], default=str)

    async def once(arguments: dict[str, Any]) -> Any:
        try:
            # Less than the tool's own timeout, which would be taken for a slow answer.
            async with asyncio.timeout(STARTING * timeout_of(tool)):
                client = await connections.get(key, lambda: session(settings, tool))
        except TimeoutError as error:
            id, seconds = tool.id.partition(".")[0], STARTING * timeout_of(tool)
            raise ToolUnreachable(
                f"{tool.id}: the MCP server does not start within {seconds:g} seconds; raise `timeout` of tools.{id}, which "
                "bounds its start too"
            ) from error
        except Exception as error:
            raise ToolUnreachable(f"{tool.id}: the MCP server does not start: {hidden(cause(error))}") from error
        try:
            return await _asked(tool, client, settings, arguments)
        except MCPError as error:
            if error.code != CONNECTION_CLOSED:
                raise ToolFailed(f"{tool.id}: {hidden(first_line(str(error)))}") from error
            await connections.drop(key, client)
            raise ConnectionError from error
        except (BrokenResourceError, ClosedResourceError) as error:
            await connections.drop(key, client)
            raise ConnectionError from error
        except RuntimeError as error:  # the SDK's word for a result that is not of the server's own schema
            raise ToolFailed(f"{tool.id}: {hidden(first_line(str(error)))}") from error

    async def call(**arguments: Any) -> Any:
        try:
            try:
                result = await once(arguments)
            except ConnectionError:
                if tool.effects == "write":
                    raise
                result = await once(arguments)
        except ConnectionError:
            raise ToolUnreachable(f"{tool.id}: the MCP server ended during the call") from None
        said = "\n".join(part.text for part in _parts(result) if getattr(part, "text", None) is not None)
        structured = getattr(result, "structured_content", None)
        if len(said) > most_bytes(tool) or _size(structured) > most_bytes(tool):
            raise too_long(tool)
        if getattr(result, "is_error", False):
            raise ToolFailed(f"{tool.id}: {hidden(said) or 'the MCP server reports an error'}")
        try:
            if "prompt" in settings:
                return checked(tool, _messages(tool, result))
            if "resource" in settings and not said and result.contents:
                raise ToolFailed(f"{tool.id}: the resource is no text")
            return _value(tool, structured, said)
        except ToolFailed as error:  # its message may quote the answer
            raise ToolFailed(hidden(str(error))) from None

    return call


async def _asked(tool: Tool, client: Any, settings: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """Return the answer of the server's session `client` in the SDK's form: of a tool's call, or with the text of a
    resource, or with the messages of a prompt, as the settings name one of these.
    """
    if "resource" in settings:
        return await client.read_resource(_address(tool, str(settings["resource"]), arguments))
    if "prompt" in settings:
        return await client.get_prompt(str(settings["prompt"]), arguments)
    return await client.call_tool(settings["tool"], arguments)


def _address(tool: Tool, address: str, arguments: dict[str, Any]) -> str:
    """Return the address of a resource with its parameters (`{name}`) filled in, each as one part of the address. Raises
    ToolFailed for an argument that is empty, `.` or `..`.
    """

    def filled(hole: re.Match[str]) -> str:
        value = str(arguments[hole[1]])
        if value in ("", ".", ".."):
            raise ToolFailed(f"{tool.id}: the argument {hole[1]!r} is {value!r}, which names another place")
        return quote(value, safe="")

    return re.sub(r"{([^{}]*)}", filled, address)


def _parts(result: Any) -> list[Any]:
    """Return the parts of a tool's result, of a resource, or of a prompt's messages, in the SDK's form; empty where there
    are none.
    """
    if hasattr(result, "messages"):
        return [message.content for message in result.messages]
    return list(getattr(result, "content", None) or getattr(result, "contents", None) or ())


def _messages(tool: Tool, result: Any) -> list[dict[str, str]]:
    """Return the messages of a prompt as turns of a chat, mappings with `role` and `content`. Raises ToolFailed for one
    that holds no text.
    """
    for message in result.messages:
        if message.content.type != "text":
            raise ToolFailed(f"{tool.id}: a message of the prompt holds {message.content.type}, and no text")
    return [{"role": message.role, "content": message.content.text} for message in result.messages]


def _size(structured: Any) -> int:
    """Return the characters of structured content as JSON; 0 for None."""
    return 0 if structured is None else len(json.dumps(structured, ensure_ascii=False))


def _value(tool: Tool, structured: Any, said: str) -> Any:
    """Return the server's result as the tool's type: `structured` where the server sent that (None: it did not), else the
    text `said`. For the type `str` it is the text, unless `structured` is a text itself or an object with `result` alone.
    Raises ToolFailed where it does not fit.
    """
    # A result that is no object travels in one, as `result`.
    wraps = isinstance(structured, dict) and set(structured) == {"result"}
    if structured is None or (without_none(tool.type) == STR and not isinstance(structured, str) and not wraps):
        return of_text(tool, said, is_json=False)
    if wraps and mismatch(structured, tool.type):
        structured = structured["result"]
    return checked(tool, structured)
