"""The runtime interface of a tool: an async function, its time limit, and its failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from lmprog.blame import connection_failed
from lmprog.compiler.plan import Tool
from lmprog.errors import Handled, LmprogError

TIMEOUT = 120.0
"""Seconds of one call, retries included, where the spec says nothing."""

Call = Callable[..., Awaitable[Any]]


class ToolFailed(Handled):
    """The error of a tool call: the tool raised, returned a value of another type than it declares, or took too long.

    `kind` is `connection` for an outage, else `tool`.
    """

    kind: Literal["tool", "connection"] = "tool"


class ToolUnreachable(ToolFailed):
    """The error of a tool call whose connection failed after all tries; unlike other ToolFailed it is an outage."""

    kind = "connection"


def goes_on(error: Exception) -> bool:
    """Return whether an error of a tool is raised unchanged: a ToolFailed, or one that concerns more than one run (a spent
    budget).
    """
    return isinstance(error, ToolFailed) or (isinstance(error, LmprogError) and not isinstance(error, Handled))


def failed(message: str, error: Exception | SystemExit) -> ToolFailed:
    """Return the ToolFailed with this message, to be raised from the exception `error` of a tool: a ToolUnreachable (an
    outage) if the exception, or one of its causes, is a failed connection.
    """
    return ToolUnreachable(message) if connection_failed(error) else ToolFailed(message)


def timeout_of(tool: Tool) -> float:
    """Return the seconds that one call of the tool may take, retries included: its `timeout`, else TIMEOUT (120)."""
    return TIMEOUT if tool.timeout is None else tool.timeout
