"""A Python function as a tool: async functions on the event loop, others in a thread, both with the tool's timeout."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from lmprog.compiler.plan import Tool
from lmprog.compiler.python_reference import load
from lmprog.compiler.types import mismatch
from lmprog.tools import ToolFailed


def python_tool(tool: Tool) -> Callable[..., Awaitable[Any]]:
    """The function that the tool names. Raises ImportFailed where it cannot be imported."""
    assert tool.python is not None
    function = load(tool.python)

    async def call(**arguments: Any) -> Any:
        limit = asyncio.timeout(tool.timeout)
        try:
            async with limit:
                if inspect.iscoroutinefunction(function):
                    result = await function(**arguments)
                else:
                    result = await asyncio.to_thread(function, **arguments)
        except Exception as error:
            if limit.expired():
                raise ToolFailed(f"{tool.id} did not end within {tool.timeout} seconds") from error
            raise ToolFailed(f"{tool.id} raised {type(error).__name__}: {error}") from error
        if problem := mismatch(result, tool.type):
            raise ToolFailed(f"{tool.id} returned what it does not declare: {problem}")
        return result

    return call
