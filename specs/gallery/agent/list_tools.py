"""Write tools/NAME.json for each tool of the server, which `lmprog check` reads: a check starts no server.

python list_tools.py
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from server import server

if __name__ == "__main__":
    folder = Path(__file__).with_name("tools")
    folder.mkdir(exist_ok=True)
    for tool in asyncio.run(server.list_tools()):
        listed = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
        (folder / f"{tool.name}.json").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
