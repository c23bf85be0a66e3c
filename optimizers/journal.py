"""The append-only record of a run. Whatever was finished is in it, so a run that was cut goes on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lmprog.trace import cut_torn_line, read_lines

Listener = Callable[[dict[str, Any]], None]


class Journal:
    """Events of a run, one JSON line each, in `folder/journal.jsonl`. What shows progress listens to it."""

    def __init__(self, folder: Path, listeners: tuple[Listener, ...] = ()) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "journal.jsonl"
        cut_torn_line(path)
        self.events: list[dict[str, Any]] = list(read_lines(path)) if path.exists() else []
        self._finished = {event["key"]: event["value"] for event in self.events if event["event"] == "finished"}
        self._file = path.open("ab")
        self._listeners = listeners

    def record(self, event: str, **values: Any) -> None:
        """Append an event; it is on the disk when this returns."""
        made = {"event": event, **values}
        self._file.write(json.dumps(made, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.events.append(made)
        self.tell(event, **values)

    def tell(self, event: str, **values: Any) -> None:
        """Show an event to the listeners without keeping it, as for progress."""
        for listener in self._listeners:
            listener({"event": event, **values})

    def recall(self, key: str) -> Any:
        """What `once` kept under `key`, or None."""
        return self._finished.get(key)

    async def once(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """The value of `work` (plain values), done at most once in the life of the run: a resumed run takes the kept one."""
        if key not in self._finished:
            value = await work()
            self._finished[key] = value
            self.record("finished", key=key, value=value)
        return self._finished[key]

    def close(self) -> None:
        self._file.close()
