"""MCP's face of `lmprog serve`, asked by the client of the MCP SDK: over stdio and over streamable HTTP."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_serve import DESK, LMPROG, SLOW, WAITING, serve  # noqa: F401

mcp = pytest.importorskip("mcp", reason="needs the extra `mcp`")
pytestmark = pytest.mark.slow


def asked(client: Any) -> tuple[Any, Any, Any]:
    """List the tools, call the one with inputs that fit, and with some that do not."""

    async def ask() -> tuple[Any, Any, Any]:
        async with client as session:
            listed = await session.list_tools()
            name = listed.tools[0].name
            good = await session.call_tool(name, {"seconds": 0.01, "mood": "cross"})
            bad = await session.call_tool(name, {"seconds": "long"})
            return listed.tools, good, bad

    return asyncio.run(ask())


def holds(answers: tuple[Any, Any, Any]) -> None:
    tools, good, bad = answers
    assert [tool.name for tool in tools] == ["patient"] and tools[0].description == "Waits as long as it is told."
    assert tools[0].input_schema["required"] == ["seconds"] and "slept" in tools[0].output_schema["properties"]
    assert good.structured_content == {"slept": 0.01, "mood": "cross", "note": None} and not good.is_error
    assert bad.is_error and "seconds" in bad.content[0].text


def test_a_program_is_a_tool_over_stdio(write) -> None:
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    write(SLOW, "slow.py")
    spec: Path = write(WAITING)
    started = StdioServerParameters(
        command=str(LMPROG), args=["serve", str(spec), "--mcp"], env=dict(os.environ), cwd=str(spec.parent)
    )
    holds(asked(Client(stdio_client(started))))


def test_a_program_is_a_tool_over_http(serve, write) -> None:  # noqa: F811
    from mcp import Client

    write(SLOW, "slow.py")
    served = serve(write(WAITING))
    holds(asked(Client(f"{served.url}/mcp")))


def test_a_failure_does_not_say_what_it_should_not(serve, write, provider) -> None:  # noqa: F811
    from mcp import Client

    served = serve(write(DESK), TEST_API_BASE=provider.url)
    provider.otherwise = (401, {}, '{"error": {"message": "wrong key sk-secret-secret"}}')

    async def ask() -> Any:
        async with Client(f"{served.url}/mcp") as session:
            return await session.call_tool("desk", {"text": "hello"})

    failed = asyncio.run(ask())
    assert failed.is_error and failed.content[0].text == "the provider of an LM gave no answer"


def test_mcp_needs_the_key_too(serve, write) -> None:  # noqa: F811
    write(SLOW, "slow.py")
    served = serve(write(WAITING), "--api-key-env", "KEY", KEY="open")
    assert served.client.post("/mcp", json={}).status_code == 401
