"""Sessions with MCP servers: one that is started (stdio), or one that runs already (streamable HTTP)."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import IO, Any

from lmprog.blame import passing
from lmprog.boundary.bodies import ENCODINGS, bound
from lmprog.boundary.terminal import printable
from lmprog.compiler.plan import Tool
from lmprog.errors import Handled
from lmprog.tools.results import first_line, most_bytes, too_long

MIN_BYTES = 1_000_000
"""Bytes of a message that are read whatever the limit of results: a server lists its tools in one."""

LOG_BYTES = 65_536
"""Bytes at the end of a server's log that are looked at where it does not start."""
SHOWN_LINES = 5
SHOWN_CHARACTERS = 200
"""The most lines of the log in a message, and the most characters of each."""
_FRAME = re.compile(r"^[\s|+-]*(?:File \".*|\^+[\s^~]*$|~[\s^~]*$)?")
"""The marks of exception groups before a line, and the lines of a traceback that name places in code."""
_ERROR = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Failure|Exit)\b(?!\w)|error:|fatal:", re.I)
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")

ADDRESSED = ("command", "args", "url", "env", "headers", "folder")
"""The options by which two tools have the same server."""


def session(settings: dict[str, Any], tool: Tool) -> AbstractAsyncContextManager[Any]:
    """Return an async context manager that connects to the MCP server of a tool and yields the client: a server that
    `command` starts, or one at `url`.

    `settings` are the server's, with the environment's values. Entering raises ImportError without the SDK,
    RuntimeError for a server that does not start, with the cause and its `last_words`, or the errors of the SDK. On
    leaving, a server that was started is ended, if need be by force.
    """
    return _reached(settings, tool) if settings.get("command") is None else _started(settings)


def command_of(settings: dict[str, Any]) -> list[str]:
    """Return the program that starts an MCP server, and its arguments; a `command` without `args` is split as a shell
    does. Raises ValueError for one with an open quote."""
    command, args = settings["command"], settings.get("args")
    words = shlex.split(command) if isinstance(command, str) and args is None else command
    return [*([words] if isinstance(words, str) else map(str, words)), *map(str, args or ())]


class _OneLine(logging.Filter):
    """A log filter that lets through one line on a server that prints what is no message; the SDK logs a traceback for each
    such line.
    """

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
    """Return False for the SDK's log record of an answer that it could not read, which the call reports itself; True for
    any other.
    """
    return "Error parsing JSON response" not in record.getMessage()


_NOISE = "lmprog: an MCP server prints to its standard output what is no message of MCP; such lines are passed over"
_one_line = _OneLine()


@asynccontextmanager
async def _started(settings: dict[str, Any]) -> AsyncIterator[Any]:
    from mcp import Client, StdioServerParameters, stdio_client

    logging.getLogger("mcp.client.stdio").addFilter(_one_line)
    program, *rest = command_of(settings)
    env = {name: str(value) for name, value in settings.get("env", {}).items()}
    server = StdioServerParameters(command=program, args=rest, env=env, cwd=settings["folder"])
    # What a server logs is not for the terminal, and may hold its secrets; its end says why it did not start.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        well = False
        try:
            async with Client(stdio_client(server, errlog=log)) as client:
                well = True
                yield client
        except Exception as error:
            if well:
                raise
            if absent := _no_command(program, env.get("PATH"), settings["folder"]):
                raise RuntimeError(absent) from error
            said = last_words(_end_of(log))
            why = cause(error) + (f" ({said})" if said else "")
            raise RuntimeError(why + _other_python(program, env.get("PATH"), said)) from error


def _no_command(program: str, path: str | None, folder: object) -> str:
    """Return what to say and do about a command that does not exist; empty for one that does."""
    if "/" in program or os.sep in program:
        return "" if os.path.exists(os.path.join(str(folder), program)) else f"there is no file {program} in {folder}"
    if shutil.which(program, path=path) is not None:
        return ""
    return f"there is no command `{program}` on PATH: install it, or write the path of the program as `command`"


def last_words(log: str) -> str:
    """Return the end of a server's log in one line: its last error with the lines that follow, else its last lines; at most
    SHOWN_LINES (5) lines, without control characters and the frames of tracebacks."""
    lines = [line for raw in log.splitlines() if (line := _FRAME.sub("", printable(raw)).strip())]
    errors = [place for place, line in enumerate(lines) if _ERROR.match(line)]
    shown = lines[errors[-1] :][:SHOWN_LINES] if errors else lines[-SHOWN_LINES:]
    return " / ".join(line[:SHOWN_CHARACTERS] for line in shown)


def _end_of(log: IO[str]) -> str:
    """Return the last part of a server's log, of which it may have written any amount."""
    with open(log.fileno(), "rb", buffering=0, closefd=False) as file:  # os.pread is not on Windows
        file.seek(max(0, os.fstat(log.fileno()).st_size - LOG_BYTES))
        return file.read(LOG_BYTES).decode(errors="replace")


def _other_python(program: str, path: str | None, said: str) -> str:
    """Return what to do about a package that the Python of a server does not have; empty where that is not the reason."""
    absent = _NO_MODULE.search(said)
    if absent is None or not os.path.basename(program).startswith("python"):
        return ""
    found = shutil.which(program, path=path) or program
    there = "" if os.path.realpath(found) == os.path.realpath(sys.executable) else f", such as {sys.executable}"
    return (
        f"; `{program}` is {found}, which has no `{absent[1]}`: install it there, or write as `command` the path of a Python "
        f"that has it{there}"
    )


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
    """Raise HTTPStatusError of httpx2, which ends the session, for a response whose status says that the server is down or
    overloaded and whose body is not JSON; the SDK hides the status.
    """
    if passing(response.status_code) and "json" not in response.headers.get("content-type", ""):
        response.raise_for_status()


def cause(error: BaseException) -> str:
    """Return the first line (at most 200 characters) of the message of the first failure inside an exception group, into
    which the MCP SDK's tasks put it, or of the error itself; its type's name where it has no message.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return first_line(str(error)) or type(error).__name__
