"""A real MCP server for tests: over stdio, or with a port as its argument over streamable http on this machine."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from mcp.server import MCPServer

server = MCPServer("desk", log_level="ERROR")


@server.tool()
def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def page(title: str) -> dict[str, str]:
    """The page of that title."""
    return {"title": title, "text": f"about {title}"}


@server.tool(structured_output=False)
def shout(text: str) -> str:
    """The text in capitals."""
    return text.upper()


@server.tool()
def deep(levels: int) -> dict[str, Any]:
    """Lists within each other."""
    found: list[Any] = []
    for _ in range(levels - 2):
        found = [found]
    return {"in": found}


@server.tool(structured_output=False)
def pid() -> str:
    """The process that serves."""
    return str(os.getpid())


@server.tool(structured_output=False)
def secret() -> str:
    """What the environment holds."""
    return os.environ.get("DESK_TOKEN", "none")


@server.tool()
def fails(text: str) -> str:
    """Never works."""
    from mcp.server.mcpserver.exceptions import ToolError

    raise ToolError(f"no page about {text}")


@server.tool()
def dies(once: str) -> str:
    """Ends the server, unless a file says that it did so before."""
    if Path(once).exists():
        return "alive again"
    Path(once).write_text("died")
    os._exit(3)


@server.tool()
async def sleeps() -> str:
    """Takes its time."""
    await asyncio.sleep(60)
    return "done"


@server.resource("desk://note")
def note() -> str:
    """The note on the desk."""
    return "Call back."


@server.resource("desk://drawers/{drawer}")
def drawer(drawer: str) -> str:
    """Return what is in a drawer."""
    return f"pencils of {drawer}"


@server.prompt()
def greet(name: str, tone: str = "friendly") -> str:
    """A greeting."""
    return f"Greet {name}, {tone}."


if os.environ.get("DESK_CHANGED"):

    @server.tool()
    def extra() -> str:
        """A tool that was not there before."""
        return "more"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
