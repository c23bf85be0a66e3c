"""Python functions as tools: async functions run on the event loop, others in a thread of their own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from lmprog.aio.threads import in_thread
from lmprog.boundary.python_values import instances_for
from lmprog.boundary.user_code import raised_at
from lmprog.compiler.plan import Tool
from lmprog.compiler.types.python_reference import load
from lmprog.tools.results import checked
from lmprog.tools.tool import failed


def python_tool(tool: Tool) -> Callable[..., Awaitable[Any]]:
    """Return a Python function as a tool: an async function that takes its arguments by name, awaits an async function
    or calls another in a thread of its own, and returns the result as plain values. It raises ToolFailed for whatever
    the function raises (SystemExit and errors of lmprog included), and for a result of another type than declared.

    Raises ImportFailed where the function cannot be imported.
    """
    assert tool.python is not None
    function = load(tool.python)
    instances = instances_for(function)
    waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)

    async def call(**arguments: Any) -> Any:
        try:
            given = instances(arguments)
            result = await (function(**given) if waits else in_thread(function, **given))
        except asyncio.CancelledError:
            raise
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}{raised_at(function, error)}"
            raise failed(f"{tool.id} raised {said}", error) from error
        return checked(tool, result)

    return call
