"""The page over HTTP, at an address with a secret part.

Every path begins with a token, which stands in the address that the command prints: without it another user of this machine, or
a page elsewhere in the browser, can neither read the page nor run anything. The host and the origin are checked too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from lmprog.errors import LmprogError
from lmprog.playground.page import Playground
from lmprog.playground.runs import Busy
from lmprog.playground.view import Asked
from lmprog.reports.page.server import LocalHandler, Refused

MAX_BODY = 4_000_000
"""The most bytes of a request's body: typed inputs may be long, and hold images."""
BEAT = 15.0
"""The most seconds between two messages on a stream of events, by which a closed connection is noticed."""


def playground_handler(playground: Playground, token: str) -> type[LocalHandler]:
    """Return the HTTP handler class of the page of `playground`: GET returns the page, and at `events` the stream of
    its changes.

    POST returns at `parts` the page's parts for a row, and starts and stops runs at `run` and `stop`. Every path begins
    with `/` and the value of `token`; others get status 403. What cannot be shown or started gets status 422 with the
    reason, a run while another is in progress 409, another path 404, and a body of another form a status from 400 to
    415.
    """

    class Handler(LocalHandler):
        def do_GET(self) -> None:
            if not self.is_allowed():
                return
            try:
                name = self.name_behind(token, "lmprog dev")
                if name == "events":
                    self._events()
                elif name == "":
                    self.answer(200, playground.page(), "text/html")
                else:
                    raise Refused(404, "there is only the page")
            except Refused as refused:
                self.answer(refused.status, str(refused))

        def do_POST(self) -> None:
            if not self.is_allowed():
                return
            try:
                self._do(self.name_behind(token, "lmprog dev"), self.json_body(MAX_BODY))
            except Refused as refused:
                self.answer(refused.status, str(refused))
            except LmprogError as error:
                self.answer(422, str(error))

        def _do(self, name: str, body: Mapping[str, Any]) -> None:
            if name == "parts":
                self.answer(200, playground.parts(_asked(body)), "text/html")
            elif name == "run":
                try:
                    number = playground.run(_asked(body), real=body.get("real") is True)
                except Busy:
                    raise Refused(409, "a run is at work; stop it, or wait for its end") from None
                self.answer(202, json.dumps({"run": number}), "application/json")
            elif name == "stop":
                playground.runs.stop()
                self.answer(202, "{}", "application/json")
            else:
                raise Refused(404, "there is nothing to do here")

        def _events(self) -> None:
            """Send an event for each change of the page, until the connection is closed."""
            self.begin(200, "text/event-stream")
            with contextlib.suppress(OSError):
                self.end_headers()
                seen = -1
                while True:
                    now = playground.session.wait(seen, BEAT)
                    self.wfile.write(f"event: change\ndata: {now}\n\n".encode() if now != seen else b": alive\n\n")
                    self.wfile.flush()
                    seen = now

    return Handler


def _asked(body: Mapping[str, Any]) -> Asked:
    """Return the row and the typed inputs that the body of a request names. Raises Refused for a body of another form."""
    split, row, typed = body.get("split"), body.get("row", 0), body.get("typed", {})
    if not (split is None or isinstance(split, str)) or not isinstance(row, int) or isinstance(row, bool):
        raise Refused(400, "`split` is a text or null, and `row` a whole number")
    if not isinstance(typed, dict) or not all(isinstance(text, str) for text in typed.values()):
        raise Refused(400, "`typed` is an object of texts")
    return Asked(split, row, typed)
