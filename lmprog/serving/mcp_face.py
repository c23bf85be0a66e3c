"""The Model Context Protocol (MCP): the program is a tool with its schemas, over stdio (`serve --mcp`) and over streamable
HTTP (`/mcp`)."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from lmprog.serving.inputs import checked
from lmprog.serving.openapi import inputs_schema, outputs_schema
from lmprog.serving.refusals import Refused
from lmprog.serving.running import Running
from lmprog.version import __version__

if TYPE_CHECKING:
    from mcp.server.lowlevel.server import Server


@asynccontextmanager
async def over_http(running: Running) -> AsyncIterator[ASGIApp]:
    """Yield the ASGI application that answers MCP clients over streamable HTTP, without sessions, while the block lasts.
    Raises ImportError where the SDK is not installed."""
    from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager

    # Without sessions any process behind a balancer may answer. Hosts and origins are checked before it is reached.
    manager = StreamableHTTPSessionManager(
        mcp_server(running), json_response=True, stateless=True, max_request_body_size=running.max_body
    )
    try:
        async with manager.run():
            yield StreamableHTTPASGIApp(manager)
    except BaseExceptionGroup as group:
        # Its group of tasks wraps even what the block itself raises.
        raise group.exceptions[0] from group.exceptions[0].__cause__


async def over_stdio(running: Running) -> None:
    """Answer the MCP client that started this process over standard input and output, until it closes the input. Raises
    ImportError where the SDK is not installed."""
    from mcp.server.stdio import stdio_server

    server = mcp_server(running)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def mcp_server(running: Running) -> Server[Any]:
    """Return the MCP server whose one tool is the program, which `running` runs; a run that fails or is refused is a result
    with `is_error` and the message. Raises ImportError where the SDK is not installed."""
    import mcp_types as types
    from mcp.server.lowlevel.server import Server

    plan = running.program.plan
    tool = types.Tool(
        name=plan.name,
        description=plan.description or None,
        input_schema=inputs_schema(plan.inputs),
        output_schema=outputs_schema(plan),
    )

    async def tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool])

    async def call(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            if params.name != plan.name:
                raise Refused("input", None, f"there is no tool {params.name!r} here; the tool is {plan.name!r}")
            inputs = params.arguments or {}
            checked(running.program, inputs)
            result, _ = await running.result(inputs, uuid.uuid4().hex)
            text = json.dumps(result.outputs, ensure_ascii=False, allow_nan=False)
            said = types.TextContent(type="text", text=text)
            return types.CallToolResult(content=[said], structured_content=json.loads(text))
        except (ValueError, TypeError, RecursionError):
            return _failed("the outputs cannot be written as JSON")
        except Refused as refused:
            return _failed(refused.body["error"]["message"])

    def _failed(message: str) -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(type="text", text=message)], is_error=True)

    return Server(plan.name, version=__version__, on_list_tools=tools, on_call_tool=call)
