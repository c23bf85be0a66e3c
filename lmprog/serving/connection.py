"""A client's connection, with time limits for sending its headers and for reading what is sent to it.

uvicorn has neither limit: a client that sends half a header, or that reads nothing, would hold its connection for
ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from lmprog.serving.refusals import error_body
from lmprog.state.json_lines import as_line

SECONDS = 20.0
"""The default of `--client-timeout`."""
MAX_FILES = 65_536
"""The most open files to which the limit of this process is raised."""
USUAL_CONNECTIONS = 1_000
"""The number of connections below which a server prints how many it may hold."""


class Connection(H11Protocol):
    """uvicorn's HTTP connection with timeouts: it is closed when its client is silent for too long in the middle of an
    exchange. The class `within` makes has the limits.

    A timer runs while the server waits for the headers of the next request, and while the client does not read what the server
    writes. A run whose connection is closed so is cancelled, as when the client leaves.
    """

    seconds = SECONDS
    """Seconds of silence after which the connection is closed."""
    most = sys.maxsize
    """Connections at a time; those beyond are refused at once, before the process has no file left to accept one."""
    _headers: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(503, "busy", "this server has as many connections as it may hold")
            self._taking = self.loop.call_later(self.seconds, self.transport.abort)
            return
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_headers()
        elif self._headers is None:
            self._await_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() and self._taking is None:
            self._taking = self.loop.call_later(self.seconds, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # Closing waits until the client has taken what is written.
        self._taking = self._taking or self.loop.call_later(self.seconds, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_taking()
        self._taking = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_taking()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_headers()
        self._stop_taking()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer data that is no HTTP with a JSON error (status 400), and close the connection; uvicorn's reason, `msg`, is
        not sent."""
        self._refuse(400, "request", "this is no HTTP request that can be read")

    def _refuse(self, status: int, kind: str, said: str) -> None:
        body = as_line(error_body(kind, said))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _await_headers(self) -> None:
        self._headers = self.loop.call_later(self.seconds, self._no_headers)

    def _no_headers(self) -> None:
        self._headers = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

    def _stop_headers(self) -> None:
        if self._headers is not None:
            self._headers.cancel()
            self._headers = None

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


def within(seconds: float, most: int = sys.maxsize) -> type[Connection]:
    """Return a subclass of Connection, for uvicorn's option `http`, with a timeout of `seconds` and at most `most`
    connections at a time; one more is answered with status 503 and closed."""
    return type("Connection", (Connection,), {"seconds": seconds, "most": most})


def most_connections() -> int:
    """Return how many connections this process may hold: two thirds of its limit of open files, which is first raised to
    MAX_FILES (65,536), or to what the system allows of these. Without such a limit, as on Windows, it is sys.maxsize.

    The rest is left for what the runs open: connections to LMs and tools, caches, traces.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return sys.maxsize
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(1, soft * 2 // 3)
