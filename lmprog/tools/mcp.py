"""Tools of MCP servers: a server is started (stdio) or reached (streamable HTTP) at first use, and kept for the program's life.

The tools of one server share its session. A server that crashed is started again at the next use; a call that only reads is
then made once more. A server that does not start, or ends during both calls, is an outage.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from lmprog.blame import passing
from lmprog.boundary.bodies import ENCODINGS, bound
from lmprog.compiler.plan import Tool
from lmprog.compiler.types.lattice import STR, mismatch, without_none
from lmprog.errors import Handled, UsageError
from lmprog.tools.connections import Connections
from lmprog.tools.environment import evaluated, without_secrets
from lmprog.tools.results import checked, first_line, most_bytes, of_text, too_long
from lmprog.tools.tool import ToolFailed, ToolUnreachable, timeout_of

MIN_BYTES = 1_000_000
"""Bytes of a message that are read whatever the limit of results: a server lists its tools in one."""
STARTING = 0.9
"""The share of a tool's timeout within which its server starts, or it counts as one that does not."""


def mcp_tool(tool: Tool, connections: Connections) -> Callable[..., Awaitable[Any]]:
    """Return a tool of an MCP server as an async function of its arguments.

    Raises UsageError where the MCP SDK or an environment variable is missing.
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
    name = settings["tool"]
    named = [settings.get(part) for part in ("command", "url", "env", "headers")]
    key = json.dumps([*named, tool.answer_mb], default=str)

    async def once(arguments: dict[str, Any]) -> Any:
        try:
            # Less than the tool's own timeout, which would be taken for a slow answer.
            async with asyncio.timeout(STARTING * timeout_of(tool)):
                client = await connections.get(key, lambda: _session(settings, tool))
        except TimeoutError as error:
            raise ToolUnreachable(f"{tool.id}: the MCP server does not start in time") from error
        except Exception as error:
            raise ToolUnreachable(f"{tool.id}: the MCP server does not start: {hidden(_cause(error))}") from error
        try:
            return await client.call_tool(name, arguments)
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
        said = "\n".join(part.text for part in result.content if part.type == "text")
        if len(said) > most_bytes(tool) or _size(result.structured_content) > most_bytes(tool):
            raise too_long(tool)
        if result.is_error:
            raise ToolFailed(f"{tool.id}: {hidden(said) or 'the MCP server reports an error'}")
        return _value(tool, result.structured_content, said)

    return call


def _session(settings: dict[str, Any], tool: Tool) -> AbstractAsyncContextManager[Any]:
    """Return a context with a client of the server.

    Leaving it ends a server that was started, if need be by force.
    """
    return _reached(settings, tool) if settings.get("command") is None else _started(settings)


def _size(structured: Any) -> int:
    """Return the characters of structured content as JSON."""
    return 0 if structured is None else len(json.dumps(structured, ensure_ascii=False))


class _OneLine(logging.Filter):
    """Says once, in one line, that a server prints what is no message; the SDK logs a traceback for each such line."""

    def __init__(self) -> None:
        super().__init__()
        self._said = False

    def filter(self, record: logging.LogRecord) -> bool:
        if "Failed to parse JSONRPC" not in record.getMessage():
            return True
        first, self._said = not self._said, True
        record.msg, record.args, record.exc_info, record.exc_text = _NOISE, (), None, None
        return first


def _no_traceback(record: logging.LogRecord) -> bool:
    """Leave out what the SDK logs of an answer that it could not read: the call says it."""
    return "Error parsing JSON response" not in record.getMessage()


_NOISE = "lmprog: an MCP server prints to its standard output what is no message of MCP; such lines are passed over"
_one_line = _OneLine()


@asynccontextmanager
async def _started(settings: dict[str, Any]) -> AsyncIterator[Any]:
    from mcp import Client, StdioServerParameters, stdio_client

    logging.getLogger("mcp.client.stdio").addFilter(_one_line)
    command = settings["command"]
    program, *rest = shlex.split(command) if isinstance(command, str) else map(str, command)
    env = {name: str(value) for name, value in settings.get("env", {}).items()}
    server = StdioServerParameters(command=program, args=rest, env=env, cwd=settings["folder"])
    # What a server logs is not for the terminal, and may hold its secrets; the last line tells why it did not start.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        well = False
        try:
            async with Client(stdio_client(server, errlog=log)) as client:
                well = True
                yield client
        except Exception as error:
            if well:
                raise
            log.seek(0)
            said = log.read().strip()
            raise RuntimeError(f"{_cause(error)}" + (f" ({said.splitlines()[-1][:200]})" if said else "")) from error


@asynccontextmanager
async def _reached(settings: dict[str, Any], tool: Tool) -> AsyncIterator[Any]:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    logging.getLogger("mcp.client.streamable_http").addFilter(_no_traceback)
    headers = {name: str(value) for name, value in settings.get("headers", {}).items()}
    most = max(most_bytes(tool), MIN_BYTES)

    async def bounded(response: Any) -> None:
        # A stream may live long: the SDK counts the bytes of each of its events.
        streams = response.headers.get("content-type", "").startswith("text/event-stream")
        bound(response, None if streams else most, httpx2.AsyncByteStream, lambda: _TooLong(str(too_long(tool))))

    class _TooLong(Handled, httpx2.StreamError):
        """The error that the SDK passes to the call, as for an answer that cannot be read."""

    # The tool's own timeout bounds the wait for an answer.
    async with (
        httpx2.AsyncClient(
            headers={"accept-encoding": ENCODINGS, **headers},
            timeout=httpx2.Timeout(30, read=None),
            event_hooks={"response": [_ends_when_down, bounded]},
        ) as http,
        Client(streamable_http_client(str(settings["url"]), http_client=http, max_sse_event_size=most)) as client,
    ):
        yield client


async def _ends_when_down(response: Any) -> None:
    """Raise for a server's failure that is no answer in MCP's own form, which ends the session; the SDK hides the status."""
    if passing(response.status_code) and "json" not in response.headers.get("content-type", ""):
        response.raise_for_status()


def _value(tool: Tool, structured: Any, said: str) -> Any:
    """Return the server's result as the tool's type: structured content where there is some, else the text."""
    kind = without_none(tool.type)
    if structured is None or (kind == STR and not isinstance(structured, str) and "result" not in structured):
        return of_text(tool, said, is_json=False)
    # A result that is no object travels in one, as `result`.
    if isinstance(structured, dict) and set(structured) == {"result"} and mismatch(structured, tool.type):
        structured = structured["result"]
    return checked(tool, structured)


def _cause(error: BaseException) -> str:
    """Return the message of the first failure, out of the exception groups that the SDK's tasks make of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return first_line(str(error)) or type(error).__name__
