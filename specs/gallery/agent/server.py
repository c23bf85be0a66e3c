"""An MCP server, over standard input and output, that answers from the catalogue of a museum. It only reads.

pip install 'lmprog[mcp]'
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
server = MCPServer("museum", log_level="ERROR")
reads = ToolAnnotations(read_only_hint=True)
collection = json.loads(Path(__file__).with_name("collection.json").read_text(encoding="utf-8"))


@server.tool(annotations=reads)
def find_objects(words: str) -> dict[str, Any]:
    """Finds objects by words of their title, artist or note."""
    wanted = words.lower().split()

    def text(found: dict[str, Any]) -> str:
        return f"{found['title']} {found['artist']} {found['note']}".lower()

    found = [item for item in collection["objects"] if any(word in text(item) for word in wanted)]
    return {"objects": [{key: item[key] for key in ("id", "title", "artist")} for item in found]}


@server.tool(annotations=reads)
def show_object(id: str) -> dict[str, Any]:
    """Shows an object: title, artist, year, note, and the room; the room is null while it is not on display."""
    from mcp.server.mcpserver.exceptions import ToolError

    for item in collection["objects"]:
        if item["id"] == id:
            return dict(item)
    raise ToolError(f"there is no object {id}; find_objects gives the ids")


@server.tool(annotations=reads)
def opening_hours(room: Literal["1", "2", "3", "garden"], weekday: Weekday) -> dict[str, Any]:
    """Gives the hours of a room on a day; they are null on a day when it is closed."""
    if weekday in collection["closed"]:
        return {"hours": None}
    part = "weekend" if weekday in ("saturday", "sunday") else "weekdays"
    return {"hours": collection["hours"][room][part]}


if __name__ == "__main__":
    server.run()
