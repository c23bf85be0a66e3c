"""Creation of tools: each becomes an async function that returns a value of its declared type or raises ToolFailed."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lmprog.compiler.plan import Tool
from lmprog.compiler.plugins import function_of
from lmprog.compiler.tools.kinds import BUILT_IN, kind_of
from lmprog.errors import LmprogError, UsageError
from lmprog.tools.environment import evaluated, without_secrets
from lmprog.tools.results import checked
from lmprog.tools.tool import Call, ToolFailed, failed, goes_on, timeout_of

if TYPE_CHECKING:
    from lmprog.tools.connections import Connections

REMEMBERED = 10_000
"""Results that a tool with `cache: true` keeps; the one not asked for longest goes first."""


def make_tool(tool: Tool, connections: Connections) -> Call:
    """Return a tool as an async function that takes its arguments by name, with the tool's timeout and (for a tool that
    only reads) its cache.

    The function returns the tool's result, or raises ToolFailed; errors that concern more than one run, such as
    UsageError, pass unchanged, but for those that a Python function raises (`python_tool`). Raises UsageError where the
    tool cannot be made, and ImportFailed where its Python function cannot be imported. `connections` holds its
    connection to the server, which equal tools share.
    """
    kind = kind_of(tool.kind)
    make = function_of(kind.make)
    call: Call
    if tool.kind not in BUILT_IN:
        call = _of_other_package(tool, make)
    elif kind.connections:
        call = make(tool, connections)
    else:
        call = make(tool)
    call = _limited(tool, call if tool.kind == "python" else _bounded(tool, call))
    return _remembering(call) if tool.cache and tool.effects == "read" else call


def _of_other_package(tool: Tool, make: Callable[..., Call]) -> Call:
    """Return a tool of another package, made by `make` from the tool with the environment's values in its settings; its
    results are held to its type, and its errors become ToolFailed without secrets. Raises UsageError where `make` fails.
    """
    hide = without_secrets(tool)
    try:
        call = make(replace(tool, settings=evaluated(tool, tool.settings)))
    except LmprogError:
        raise
    except Exception as error:
        raise UsageError(f"the tool {tool.id!r} cannot be made: {type(error).__name__}: {hide(str(error))}") from error

    async def typed(**arguments: Any) -> Any:
        try:
            return checked(tool, await call(**arguments))
        except Exception as error:
            if goes_on(error):
                raise
            raise failed(f"{tool.id}: {type(error).__name__}: {hide(str(error))}", error) from error

    return typed


def fake_tool(tool: Tool) -> Call:
    """Return a stand-in for a tool in dry runs: it does nothing, and returns a made-up value of the declared type, the
    same for all calls."""
    from lmprog.lms.fake import placeholder

    async def call(**arguments: Any) -> Any:
        return placeholder(tool.result, tool.type)

    return call


def _bounded(tool: Tool, call: Call) -> Call:
    """Return a call that raises each failure of `call` as ToolFailed; only errors that concern more than one run, such as a
    spent budget, pass unchanged.
    """

    async def bounded(**arguments: Any) -> Any:
        try:
            return await call(**arguments)
        except Exception as error:
            if goes_on(error):
                raise
            raise failed(f"{tool.id}: {type(error).__name__}: {error}", error) from error

    return bounded


def _limited(tool: Tool, call: Call) -> Call:
    """Return a call that raises ToolFailed where `call` does not end within the tool's timeout."""
    seconds = timeout_of(tool)

    async def limited(**arguments: Any) -> Any:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await call(**arguments)
        except Exception as error:
            if limit.expired():
                raise ToolFailed(f"{tool.id} did not end within {seconds:g} seconds") from error
            raise

    return limited


def _remembering(call: Call) -> Call:
    """Return a call that keeps the last REMEMBERED (10,000) results of `call` by its arguments: equal calls at the same
    time in one event loop are made once, and a failure is not kept.
    """
    results: OrderedDict[str, Any] = OrderedDict()
    waiting: dict[tuple[int, str], asyncio.Lock] = {}

    async def remembered(**arguments: Any) -> Any:
        key = json.dumps(arguments, sort_keys=True, default=str)
        # A lock belongs to one event loop; the program may run in several.
        place = (id(asyncio.get_running_loop()), key)
        if key not in results:
            try:
                async with waiting.setdefault(place, asyncio.Lock()):
                    if key not in results:
                        results[key] = await call(**arguments)
            finally:
                waiting.pop(place, None)
        results.move_to_end(key)
        result = results[key]
        if len(results) > REMEMBERED:
            results.popitem(last=False)
        return result

    return remembered
