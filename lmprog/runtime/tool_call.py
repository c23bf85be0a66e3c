"""A call of a tool, by a step or by an agent, and its record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from lmprog.aio.loops import being_cancelled
from lmprog.compiler.plan import Tool
from lmprog.failure import CANCELLED
from lmprog.runtime.run import Run, Site
from lmprog.tools.arguments import against_schemas
from lmprog.tools.tool import ToolFailed
from lmprog.traces.record import ToolInvocation


async def call_tool(
    run: Run,
    tool: Tool,
    arguments: Mapping[str, Any],
    site: Site,
    *,
    module: str | None = None,
    within: tuple[int, ...] = (),
) -> Any:
    """Call a tool with `arguments` (by parameter), record the call in `run`, also where it fails, and return the tool's
    result.

    `site` is the position of the step, `module` the id of the agent that asked for the call (None: a tool step), and
    `within` the numbers of the agent's turn and of the call in it (empty for a tool step). Raises ToolFailed where the
    tool fails, or a step's arguments break a bound of its schema, and unchanged what concerns more than this run.
    Before a tool that writes `options.before_write` is called; where that raises, nothing is called or recorded.
    """
    if tool.effects == "write" and run.options.before_write is not None:
        run.options.before_write(run.example)
    known: dict[str, Any] = {"error": CANCELLED}
    began, started = time.time(), time.perf_counter()
    try:
        if module is None and not run.resources.dry_run and (wrong := against_schemas(tool, arguments)):
            raise ToolFailed(wrong)  # the types of a step's arguments are checked before it runs, and no bounds
        result = await run.resources.tool(tool)(**arguments)
        known = {"result": result}
        return result
    except ToolFailed as error:
        known = {"error": str(error), "failure": error.kind}
        raise
    except asyncio.CancelledError as error:
        if being_cancelled():
            raise
        failed = ToolFailed(f"{tool.id} was cancelled by its own code, and has no result")
        known = {"error": str(failed), "failure": failed.kind}
        raise failed from error
    except Exception as error:
        known = {"error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        run.record(
            (*site.place, *within),
            ToolInvocation,
            tool=tool.id,
            path=site.path,
            attempt=site.attempt,
            module=module,
            arguments=arguments,
            wrote=tool.effects == "write",
            started=began,
            seconds=time.perf_counter() - started,
            **known,
        )
