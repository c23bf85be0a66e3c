"""Reasons why a request has no outputs: the kinds, their HTTP statuses, and the messages to the client.

Only errors that the client can fix are explained in detail. Messages of a provider or a tool are shown only to the
server's operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lmprog.errors import Handled
from lmprog.state.json_lines import as_line

KINDS: dict[str, tuple[int, str]] = {
    "body": (400, "the body is not a JSON object of the program's inputs"),
    "query": (400, "the parameter `stream` of the address is 0, 1 or fields"),
    "unauthorized": (401, "the header `Authorization: Bearer KEY` is missing or has another key"),
    "host": (403, "the header `Host` does not name this server; say --allow-host NAME for another name"),
    "origin": (403, "pages of this origin may not call; say --allow-origin URL to allow them"),
    "no_model": (404, "the server has no model of this name"),
    "no_run": (404, "the server's trace has no run of this id; it is the `id` in the answer of POST /run"),
    "no_trace": (409, "the server keeps no trace, beside which feedback is stored; start it with --trace FILE"),
    "slow": (408, "the body did not come in time"),
    "too_large": (413, "the body is larger than this server takes"),
    "media_type": (415, "the body must be JSON: send the header `Content-Type: application/json`"),
    "feedback": (422, "the feedback has an unknown part, or a part that does not fit the program's outputs"),
    "input": (422, "an input is missing, unknown or of the wrong type"),
    "busy": (429, "as many requests as this server takes are waiting"),
    "program": (500, "the program failed on these inputs"),
    "server": (500, "the server cannot write the trace of this run; its log says why"),
    "unreadable": (502, "a reply of the LM could not be read"),
    "tool": (502, "a tool of the program failed"),
    "provider": (503, "the provider of an LM gave no answer"),
    "connection": (503, "a server that the program's tools use could not be reached"),
    "timeout": (504, "the run, or a step of it, did not end in time and was cancelled"),
}
"""The HTTP status and the usual message of each kind of error."""

OF_FEEDBACK = ("no_run", "no_trace", "feedback")
"""Kinds that only feedback on a run can meet."""

AGAIN = {"busy": "1", "provider": "5", "connection": "5"}
"""The seconds of the header `Retry-After` by the kind of an error after which the same request may succeed."""

UNREAD = ("slow", "too_large")
"""Refusals of a body that was not read to its end, so that no other request can follow on the connection."""


@dataclass(eq=False)
class Refused(Handled):
    """The exception that ends a request with an error response, of a kind (`busy`, say; a key of KINDS) that decides status and
    message.

    `path` is the path of the step that failed, or the part of the request at fault, such as `inputs` (None: neither). `message`
    takes the place of the kind's message (None: it does not).
    """

    kind: str
    path: str | None = None
    message: str | None = None

    @property
    def status(self) -> int:
        """The HTTP status of the response, such as 422."""
        return KINDS[self.kind][0]

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the response: `{"error": {"kind", "message", "path"}}`."""
        return error_body(self.kind, self.message or KINDS[self.kind][1], self.path)

    @property
    def response(self) -> Response:
        """The response in lmprog's own form, with the headers that its kind needs (`Retry-After`, `Connection`,
        `WWW-Authenticate`)."""
        headers = {"Retry-After": AGAIN[self.kind]} if self.kind in AGAIN else {}
        if self.kind in UNREAD:
            headers["Connection"] = "close"
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(as_line(self.body), self.status, headers, "application/json")


def error_body(kind: str, message: str, path: str | None = None) -> dict[str, Any]:
    """Return the JSON body of an error response as a dictionary, `{"error": {"kind", "message", "path"}}`; `path` is the
    step that failed, or the part of the request at fault (None: neither)."""
    return {"error": {"kind": kind, "message": message, "path": path}}


async def failed(request: Request, error: Exception) -> Response:
    """Return the response for an unforeseen exception in the server itself (status 500), without its cause."""
    return Refused("program").response


async def not_here(request: Request, error: Exception) -> Response:
    """Return the response for a path that does not exist (status 404), or a method that it does not take (405)."""
    status: int = getattr(error, "status_code", 500)
    said = f"{request.method} is not answered here" if status == 405 else "there is nothing here; see /openapi.json"
    return JSONResponse(error_body("request", said), status, getattr(error, "headers", None))
