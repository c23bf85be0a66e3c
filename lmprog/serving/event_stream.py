"""The response to a request as a stream of server-sent events."""

from __future__ import annotations

from starlette.types import Send


class EventStream:
    """A response of server-sent events, sent by the ASGI function `send`; `begun` is True once its headers are sent, so that
    no other response can be sent any more."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def begin(self) -> None:
        """Send the headers of the response, with status 200."""
        self.begun = True
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def event(self, line: bytes, name: str | None = None) -> None:
        """Send one event with the name `name` (None: without a name); `line` is its data and ends with a line break."""
        head = b"" if name is None else f"event: {name}\n".encode()
        await self._send({"type": "http.response.body", "body": head + b"data: " + line + b"\n", "more_body": True})

    async def end(self) -> None:
        """End the response; nothing can be sent after it."""
        await self._send({"type": "http.response.body", "body": b""})
