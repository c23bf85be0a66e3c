"""Tags that a client gives its run, for traces: session and user above all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request

from lmprog.serving.refusals import Refused
from lmprog.traces.tags import problem

HEADER = "lmprog-tags"
"""The header of tags, in the form of W3C's baggage: `session=abc, user=7`, with % for what a header cannot hold."""


def tags_of(request: Request, others: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a request by name: those of its header `lmprog-tags` (pairs as `session=abc, user=7`), and
    those of its body (`others`, unchecked), which tags of the header with the same name replace.

    Raises Refused where the header has another form, or the tags cannot be sent with a trace.
    """
    found = dict(others)
    for header in request.headers.getlist(HEADER):
        for part in filter(None, map(str.strip, header.split(","))):
            name, equals, value = part.partition("=")
            if not equals:
                raise Refused(
                    "input", "tags", f"the header `{HEADER}` holds pairs as session=abc, user=7, not {part[:40]!r}"
                )
            found[unquote(name.strip())] = unquote(value.strip())
    if wrong := problem(found):
        raise Refused("input", "tags", wrong)
    return found
