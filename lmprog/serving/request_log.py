"""`serve --request-log FILE`: a JSON line for each request, with nothing of its content."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import click
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmprog.compiler.yaml.whole_file import open_private
from lmprog.state.json_lines import cut_torn_line, versioned_line
from lmprog.state.ownership import exclusive_writer


class RequestLog:
    """The log of requests as a file of JSON lines, which only this process writes and only its owner may read; a
    context manager that opens the file to append, and makes its folder.

    Entering raises WriterLocked where another process writes the file, and OSError where it cannot be opened. A full
    disk is reported once, and no request fails by it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owning = ExitStack()

    def __enter__(self) -> RequestLog:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._owning.enter_context(exclusive_writer(self.path))
        cut_torn_line(self.path)
        self._file: IO[bytes] = self._owning.enter_context(open_private(self.path, "ab", buffering=0))
        self._failed = self._torn = False
        return self

    def __exit__(self, *exception: object) -> None:
        self._owning.close()

    def add(self, **values: object) -> None:
        """Append a line of JSON with these values by name; raises nothing where it cannot be written."""
        line = (b"\n" if self._torn else b"") + versioned_line(values)
        self._torn = True
        try:
            self._torn = self._file.write(line) < len(line)
        except OSError as error:
            if not self._failed:
                click.echo(f"lmprog: {self.path} cannot be written ({error.strerror}); requests go on", err=True)
            self._failed = True


class Logged:
    """ASGI middleware that logs each HTTP request when it has ended: its time, method, path, status (null: no response was
    begun), seconds, the bytes of its body and of the response, and the run's id (null: it made no run)."""

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self.app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, began, status, taken, given = time.time(), time.perf_counter(), 0, 0, 0

        async def received() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            return message

        async def sent(message: Message) -> None:
            nonlocal status, given
            status = message.get("status", status)
            given += len(message.get("body", b""))
            await send(message)

        scope.setdefault("state", {})
        try:
            await self.app(scope, received, sent)
        finally:
            self._log.add(
                started=round(started, 3),
                method=scope["method"],
                path=(scope.get("raw_path") or b"-").decode("ascii", "replace"),
                status=status or None,
                seconds=round(time.perf_counter() - began, 6),
                bytes_in=taken,
                bytes_out=given,
                id=scope["state"].get("lmprog_run"),
            )
