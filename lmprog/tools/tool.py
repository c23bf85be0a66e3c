"""The runtime interface of a tool: an async function, its time limit, and its failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from lmprog.blame import connection_failed
from lmprog.compiler.plan import Tool

TIMEOUT = 120.0
"""Seconds of one call, retries included, where the spec says nothing."""

Call = Callable[..., Awaitable[Any]]


class ToolFailed(Exception):
    """A tool that raised, gave a value of another type than it declares, or did not end in time."""

    kind: Literal["tool", "connection"] = "tool"


class ToolUnreachable(ToolFailed):
    """A tool whose connection was refused or cut, or whose server failed, after all tries."""

    kind = "connection"


def failed(message: str, error: Exception | SystemExit) -> ToolFailed:
    """Return the failure of a tool that an exception caused."""
    return ToolUnreachable(message) if connection_failed(error) else ToolFailed(message)


def timeout_of(tool: Tool) -> float:
    """Return the seconds that a call of the tool may take, retries included."""
    return TIMEOUT if tool.timeout is None else tool.timeout
