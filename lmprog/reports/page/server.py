"""The page on a local address, made anew each time it is asked for."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

from lmprog.errors import Handled, InfrastructureError, LmprogError

HOST = "127.0.0.1"


def serve(page: Callable[[], str], port: int, ready: Callable[[str], None]) -> int:
    """Answer until a signal comes; the exit status. `ready` is told the address.

    Raises InfrastructureError where the port cannot be had, KeyboardInterrupt on Ctrl-C.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(page))
    except OSError as error:
        raise InfrastructureError(
            f"{HOST}:{port} cannot be listened on: {error.strerror or error}; say another --port"
        ) from None
    signal.signal(signal.SIGTERM, _told_to_stop)
    with server:
        ready(f"http://{HOST}:{server.server_port}/")
        try:
            server.serve_forever()
        except _Stopped:
            return 0
    return 0


class _Stopped(Handled):
    pass


def _told_to_stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped


def _handler(page: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host, _, _ = self.headers.get("host", "").rpartition(":")
            if host not in (HOST, "localhost"):
                # A page elsewhere that has its own name lead here must not read the run.
                self._answer(403, f"this address is {HOST}")
            elif self.path.partition("?")[0] != "/":
                self._answer(404, "there is only /")
            else:
                try:
                    self._answer(200, page(), "text/html")
                except (LmprogError, OSError) as error:
                    self._answer(500, f"the run cannot be read: {error}")

        def _answer(self, status: int, text: str, kind: str = "text/plain") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("content-type", f"{kind}; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.send_header("cache-control", "no-store")
            self.send_header("x-content-type-options", "nosniff")
            with contextlib.suppress(ConnectionError):  # who asked has left
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Log nothing: the reader of the page is the user who started the server."""

    return Handler
