"""What a program may call beside LMs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from lmprog.compiler.plan import Tool
from lmprog.errors import UsageError


class ToolFailed(Exception):
    """A tool that raised, gave a value of another type than it declares, or did not end in time."""


def make_tool(tool: Tool) -> Callable[..., Awaitable[Any]]:
    """The tool as an async function of its arguments, which raises ToolFailed.

    Raises UsageError for a kind of tool that this version checks but cannot run.
    """
    if tool.kind == "python":
        from lmprog.tools.python import python_tool

        return python_tool(tool)
    raise UsageError(f"the tool {tool.id!r}: this version runs python tools; {tool.kind} tools are only checked so far")


def fake_tool(tool: Tool) -> Callable[..., Awaitable[Any]]:
    """A stand-in that gives a value of the tool's type and does nothing: for dry runs."""
    from lmprog.lms.fake import placeholder

    async def call(**arguments: Any) -> Any:
        return placeholder(tool.result, tool.type)

    return call
