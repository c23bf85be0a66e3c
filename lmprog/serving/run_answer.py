"""`POST /run`: the inputs are the body, the answer is the outputs as JSON, or a stream of what happens in the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from lmprog.compiler.plan import Plan
from lmprog.runtime.events import CallEnded, Event
from lmprog.runtime.result import Result
from lmprog.serving.event_stream import EventStream
from lmprog.serving.field_pieces import FieldPieces
from lmprog.serving.refusals import Refused
from lmprog.state.json_lines import as_line


class RunAnswer:
    """The response to one `POST /run`, as JSON or as a stream of events, an `Answer` of `running.py`. Raises Refused
    where the address's parameter `stream` is not 0, 1 (as the header `Accept: text/event-stream` says too) or
    fields."""

    def __init__(self, plan: Plan, request: Request, send: Send, id: str) -> None:
        kind = _stream_asked_for(request)
        self.streams = kind != "0"
        self.client_tools = None
        self._stream = EventStream(send)
        self._fields = FieldPieces(plan) if kind == "fields" else None

    def inputs(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the body of the request as it is: the program's inputs by name."""
        return body

    def tags(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an empty mapping: the body holds the inputs alone, and tags come in a header."""
        return {}

    async def begin(self) -> None:
        """Send the headers of the stream."""
        await self._stream.begin()

    async def tell(self, event: Event) -> None:
        """Send an event of the run to the client of a stream: a call that has ended (without the text of its error), or
        a piece of a reply; with `stream=fields`, in place of the latter, the pieces of outputs that it adds, if any."""
        plain: dict[str, Any] = {"path": event.path, "module": event.module, "attempt": event.attempt}
        if isinstance(event, CallEnded):
            ended = {"tool": event.tool, "seconds": round(event.seconds, 6), "failed": event.error is not None}
            await self._event("record", plain | ended)
        elif self._fields is not None:
            await self._send_pieces(self._fields.of(event))
        elif event.text is None:
            await self._event("restart", plain)
        else:
            await self._event("text", plain | {"piece": event.text})

    async def end(self, result: Result, id: str, seconds: float) -> Response | None:
        """Return the outputs as a JSON response, with the usage, `seconds` and `id` of the run; for a stream send them as its
        last event and return None.

        Raises ValueError, TypeError or RecursionError for outputs that are no JSON.
        """
        answer = {"outputs": result.outputs, "usage": usage_of(result), "seconds": seconds, "id": id}
        body = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"
        if not self.streams:
            return Response(body, media_type="application/json")
        if self._fields is not None:
            await self._send_pieces(self._fields.rest(result.outputs or {}))
        await self._stream.event(body, "result")
        await self._stream.end()
        return None

    async def refuse(self, refused: Refused) -> Response | None:
        """Return an error response; where a stream has begun, send the error as its last event and return None."""
        if not self._stream.begun:
            return refused.response
        await self._event("error", refused.body)
        await self._stream.end()
        return None

    async def _send_pieces(self, pieces: list[tuple[str, Any]]) -> None:
        for output, piece in pieces:
            said = {"output": output} if piece is None else {"output": output, "piece": piece}
            await self._event("restart" if piece is None else "field", said)

    async def _event(self, name: str, value: Mapping[str, Any]) -> None:
        await self._stream.event(as_line(value), name)


def usage_of(result: Result) -> dict[str, Any]:
    """Return the usage of a run as a dictionary: `calls` (of LMs, failed ones included), `prompt_tokens`,
    `completion_tokens` and `usd` (None where the price of one of them is unknown)."""
    used = [record.usage for record in result.trace if record.usage is not None]
    prices = [usage.usd for usage in used]
    return {
        "calls": len(result.trace),
        "prompt_tokens": sum(usage.prompt_tokens for usage in used),
        "completion_tokens": sum(usage.completion_tokens for usage in used),
        "usd": None if None in prices else sum(price for price in prices if price is not None),
    }


def _stream_asked_for(request: Request) -> str:
    """Return how a request wants its answer: `0` (JSON), `1` (a stream of replies, also asked for by the header `Accept`) or
    `fields` (a stream of outputs). Raises Refused for an unknown value of `stream`."""
    said = request.query_params.getlist("stream")
    if any(value not in ("0", "1", "fields") for value in said):
        raise Refused("query")
    if "fields" in said:
        return "fields"
    return "1" if "1" in said or "text/event-stream" in request.headers.get("accept", "") else "0"
