"""The page of a trace over HTTP: it is made anew for each load, and stores feedback beside the trace."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmprog.errors import LmprogError
from lmprog.reports.page.server import LocalHandler, Refused
from lmprog.reports.page.trace_report import WAYS, said_of, trace_page, way
from lmprog.traces.feedback import WrongFeedback, checked, find_run, keep, read_feedback, types_in

MAX_BODY = 200_000
"""The most bytes of a request with feedback."""


def trace_handler(files: Sequence[Path], token: str, show_private: bool) -> type[LocalHandler]:
    """Return the class of request handlers for the page of one trace, or of two that are compared: GET makes the page
    anew, POST to `feedback` stores feedback beside the first. Every path begins with `/` and the value of `token`;
    others get status 403. Another path gets 404, feedback that does not fit a status from 400 to 422, and a trace that
    cannot be read or written 500. With `show_private` the page shows private values too."""

    class Handler(LocalHandler):
        def do_GET(self) -> None:
            if not self.is_allowed():
                return
            try:
                if self.name_behind(token, "lmprog view"):
                    raise Refused(404, "there is only the page")
                self.answer(200, trace_page(files, show_private=show_private), "text/html")
            except Refused as refused:
                self.answer(refused.status, str(refused))
            except (LmprogError, OSError) as error:
                self.answer(500, f"the trace cannot be read: {error}")

        def do_POST(self) -> None:
            if not self.is_allowed():
                return
            try:
                if self.name_behind(token, "lmprog view") != "feedback":
                    raise Refused(404, "there is only feedback to store")
                found = stored(files[0], self.json_body(MAX_BODY), show_private)
                self.answer(200, json.dumps(found), "application/json")
            except Refused as refused:
                self.answer(refused.status, str(refused))
            except (LmprogError, OSError) as error:
                self.answer(500, f"the feedback cannot be stored: {error}")

    return Handler


def stored(trace: Path, body: Mapping[str, Any], show_private: bool) -> dict[str, str]:
    """Store the feedback in the body of a request (`run`: the id, `feedback`: its parts) in the file beside the trace,
    and return what the page shows of all feedback on the run: `said`, its text, `way`, the word for the run's state,
    and `colour`, that of the badge. Raises Refused for feedback that does not fit (422), and for an unknown run (404),
    and the errors of reading and writing the files.

    Without `show_private` the text leaves out the words of feedback on a run with private values.
    """
    id, given = body.get("run"), body.get("feedback")
    run = find_run(trace, id) if isinstance(id, str) else None
    if run is None or not isinstance(given, dict):
        raise Refused(404, "the trace has no such run; load the page again")
    try:
        parts = checked(given, types_in(run))
    except WrongFeedback as error:
        raise Refused(422, str(error)) from None
    keep(trace, [(run["id"], parts)])
    whole = read_feedback(trace).get(run["id"], {})
    said = said_of(whole, private=bool(run.get("private")) and not show_private)
    named = way(run, whole)
    return {"said": said, "way": named, "colour": WAYS[named]}
