"""`POST /runs/{id}/feedback`: what a person says of the answer of a run, stored beside the server's trace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import click
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lmprog.errors import InfrastructureError
from lmprog.serving.chat import PREFIX
from lmprog.serving.refusals import Refused
from lmprog.serving.running import CLIENT_GONE, Running
from lmprog.traces.feedback import WrongFeedback, checked, find_run, keep


async def feedback(running: Running, request: Request) -> Response:
    """Store the feedback in the body of the request, on the run whose id the path has (that of a chat completion too),
    in the file beside the server's trace; return a response with it (without earlier feedback), or an error response:
    without a trace, for a run that it does not hold, for feedback that does not fit, and where the file cannot be
    written."""
    try:
        if running.trace is None:
            raise Refused("no_trace")
        id = request.path_params["id"].removeprefix(PREFIX)
        given = _checked(running, await running.body(request))
        trace = running.trace.path
        if await asyncio.to_thread(find_run, trace, id) is None:
            raise Refused("no_run")
        try:
            await asyncio.to_thread(keep, trace, [(id, given)])
        except (OSError, InfrastructureError) as error:
            click.echo(f"lmprog: the feedback on {id} cannot be stored: {error}", err=True)
            raise Refused("server", None, "the server cannot store the feedback; its log says why") from error
    except Refused as refused:
        return refused.response
    except ClientDisconnect:
        return Response(status_code=CLIENT_GONE)
    body = json.dumps({"id": id, "feedback": given}, ensure_ascii=False, allow_nan=False)
    return Response(body.encode(errors="backslashreplace") + b"\n", media_type="application/json")


def _checked(running: Running, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the feedback in a body. Raises Refused where it does not fit the program's outputs."""
    try:
        return checked(body, running.program.plan.output_types)
    except WrongFeedback as error:
        raise Refused("feedback", error.path, error.message) from error
