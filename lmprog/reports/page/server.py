"""A web server for pages on this machine's own address (`lmprog view`, `lmprog dev`)."""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import signal
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any

from lmprog.errors import Handled, InfrastructureError, LmprogError

HOST = "127.0.0.1"
HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every response: browsers store nothing, no other page may frame or read it, and links do not pass the address
on.
"""


class Refused(Handled):
    """The error for a request that a page's server refuses, with the HTTP `status` of the response; its text is the
    message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def new_token() -> str:
    """Return a random token for the path of a page's address, so that no other page or user of the machine can guess it."""
    return secrets.token_urlsafe(24)


def serve(handler: type[BaseHTTPRequestHandler], port: int, ready: Callable[[str], None]) -> int:
    """Serve local pages on 127.0.0.1 at `port` (0: any free one) until SIGTERM, whose handler this sets for the rest of
    the process (so call it in the main thread); return the exit status 0. `ready` is called with the address, such as
    `http://127.0.0.1:8000/`, once the server listens.

    `handler` answers the requests, each in a thread. Raises InfrastructureError where the port cannot be had, and
    KeyboardInterrupt on Ctrl-C.
    """
    try:
        server = LocalServer((HOST, port), handler)
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


def page_handler(page: Callable[[], str]) -> type[LocalHandler]:
    """Return the class of request handlers for one page at `/`, which calls `page` for the HTML at each request; where
    `page` raises LmprogError or OSError, the response is the message with status 500. Other paths get status 404."""

    class Handler(LocalHandler):
        def do_GET(self) -> None:
            if not self.is_allowed():
                return
            if self.path.partition("?")[0] != "/":
                self.answer(404, "there is only /")
                return
            try:
                self.answer(200, page(), "text/html")
            except (LmprogError, OSError) as error:
                self.answer(500, f"the run cannot be read: {error}")

    return Handler


class LocalHandler(BaseHTTPRequestHandler):
    """The base class of request handlers for local pages: checks of requests, and responses with HEADERS."""

    timeout = 120
    """Seconds that a client may be silent in the midst of a request."""

    def is_allowed(self) -> bool:
        """Return whether a request names 127.0.0.1 or localhost as its host and comes from no other web page; answer it with
        an error (403) otherwise.

        A page elsewhere, whose host name leads to this machine or whose script sends requests to it, must neither read nor
        change anything.
        """
        host = self.headers.get("host", "")
        name = host.partition(":")[0]  # without a port a browser means 80
        if name not in (HOST, "localhost"):
            self.answer(403, f"this address is {HOST}")
            return False
        origin = self.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            self.answer(403, "pages of other addresses are not answered")
            return False
        return True

    def name_behind(self, token: str, verb: str) -> str:
        """Return the part of the request's path after `/TOKEN/`, without the query; empty for the page itself, also
        without a slash after the token. Raises Refused (403) where the path does not begin with the token.

        `verb` is the command whose printed address has the token, for the message.
        """
        first, _, name = self.path.partition("?")[0].removeprefix("/").partition("/")
        if not hmac.compare_digest(first.encode(), token.encode()):
            raise Refused(403, f"open the address that `{verb}` has printed, with the token in it")
        return name

    def json_body(self, most: int) -> dict[str, Any]:
        """Return the body of a request as a JSON object. Raises Refused for a body of another type (415), without a
        length (411), of more than `most` bytes (413), or that is no JSON object (400)."""
        # A page elsewhere cannot declare JSON without asking this server first, which does not answer.
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "the body must be JSON")
        try:
            length = int(self.headers.get("content-length", ""))
        except ValueError:
            raise Refused(411, "the length of the body is missing") from None
        if not 0 <= length <= most:
            raise Refused(413, f"the body has more than {most:,} bytes")
        try:
            body = json.loads(self.rfile.read(length))
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise Refused(400, "the body is no JSON object")
        return body

    def answer(self, status: int, text: str, kind: str = "text/plain") -> None:
        """Send a whole response: the HTTP status, the text, and `kind`, its content type. Where the client has left, nothing is
        raised.
        """
        body = text.encode(errors="backslashreplace")
        self.begin(status, kind, len(body))
        with contextlib.suppress(ConnectionError):  # who asked has left
            self.end_headers()
            self.wfile.write(body)

    def begin(self, status: int, kind: str, length: int | None = None) -> None:
        """Prepare the status and headers of a response (`kind`: its content type, `length`: its bytes, None: not
        known), which `end_headers` sends."""
        self.send_response(status)
        self.send_header("content-type", f"{kind}; charset=utf-8")
        if length is not None:
            self.send_header("content-length", str(length))
        for name, value in HEADERS.items():
            self.send_header(name, value)

    def log_message(self, *arguments: object) -> None:
        """Log nothing: the reader of the page is the user who started the server."""


class LocalServer(ThreadingHTTPServer):
    """A web server on a local address, with a thread for each request, which ends with the process."""

    daemon_threads = True
    # Streams of events go on until their readers leave; the end of the server waits for none of them.
    block_on_close = False


class _Stopped(Handled):
    """The error by which SIGTERM ends the server."""


def _told_to_stop(number: int, frame: FrameType | None) -> None:
    """Raise _Stopped: the handler of a signal, which Python calls with these arguments."""
    raise _Stopped
