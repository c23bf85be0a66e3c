"""`POST /run`: one request, the run that answers it, and the cancellation of both together."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import click
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lmprog.blame import is_outage
from lmprog.errors import InfrastructureError, LmprogError
from lmprog.lms.images import READABLE
from lmprog.runtime.events import CallEnded, Event, Listener, TextPiece, followed
from lmprog.runtime.execution import Execution
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.runtime.result import Result
from lmprog.serving.connection import SECONDS
from lmprog.serving.gate import Gate
from lmprog.serving.inputs import checked, files_of, read_body
from lmprog.serving.refusals import KINDS, Refused
from lmprog.state.json_lines import as_line
from lmprog.traces.files import TraceWriter
from lmprog.traces.record import Record

CLIENT_GONE = 499
"""Status in the access log for a request whose client has disconnected."""


@dataclass
class Running:
    """The ASGI application of `POST /run`. A run is cancelled when its client leaves or it takes too long."""

    program: Program
    options: RunOptions
    gate: Gate
    ready: asyncio.Event
    seconds: float
    """The longest that a request may take, waiting included."""
    max_body: int
    trace: TraceWriter | None = None
    body_seconds: float = SECONDS
    """The longest that the body of a request may take to come."""

    def __post_init__(self) -> None:
        self._files = files_of(self.program.plan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            streams = _wants_stream(request)
            inputs = await self._inputs(request)
            id = scope.setdefault("state", {})["lmprog_run"] = uuid.uuid4().hex
            work = self._answer(inputs, id, Stream(send) if streams else None)
            response = await unless_gone(work, receive)
        except Refused as refused:
            response = refused.response
        except ClientDisconnect:
            response = Response(status_code=CLIENT_GONE)
        if response is not None:
            await response(scope, receive, send)

    async def _inputs(self, request: Request) -> dict[str, Any]:
        """Read the body as inputs of the program, keeping at most `max_body` bytes in memory."""
        if not _is_json(request.headers.get("content-type", "")):
            raise Refused("media_type")
        body = bytearray()
        try:
            async with asyncio.timeout(min(self.seconds, self.body_seconds)):
                if int(request.headers.get("content-length", "0")) > self.max_body:
                    raise Refused("too_large")
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self.max_body:
                        raise Refused("too_large")
        except TimeoutError:
            raise Refused("slow") from None
        inputs = read_body(body)
        checked(self.program, inputs)
        return inputs

    async def _answer(self, inputs: Mapping[str, Any], id: str, stream: Stream | None) -> Response | None:
        """Return the response; None where it has been sent as a stream."""
        try:
            async with asyncio.timeout(self.seconds) as limit, self.gate:
                await self.ready.wait()
                answer = await self._run(inputs, id, stream)
        except (Refused, TimeoutError) as error:
            if isinstance(error, TimeoutError) and not limit.expired():
                raise
            refused = error if isinstance(error, Refused) else Refused("timeout")
            if stream is None or not stream.begun:
                raise refused from None
            await stream.end("error", as_line(refused.body))
            return None
        if stream is None:
            return Response(answer, media_type="application/json")
        await stream.end("result", answer)
        return None

    async def _run(self, inputs: Mapping[str, Any], id: str, stream: Stream | None) -> bytes:
        """Return the answer as JSON. Raises Refused where the run failed."""
        started = time.perf_counter()
        try:
            if stream is None:
                result = await self._traced(inputs, id, self.options)
            else:
                await stream.begin()

                def begin(tell: Listener) -> Any:
                    return self._traced(inputs, id, replace(self.options, on_text=tell, on_record=tell))

                async with aclosing(followed(begin)) as events:
                    async for event in events:
                        if isinstance(event, Result):
                            result = event
                        else:
                            await stream.tell(event)
        except Refused:
            raise
        except LmprogError as error:
            # A model that cannot be read, a key that is not set: the matter of whoever runs the server.
            click.echo(f"lmprog: {id}: {error}", err=True)
            raise Refused("provider" if isinstance(error, InfrastructureError) else "program") from error
        except Exception as error:
            click.echo(f"lmprog: {id}: {traceback.format_exc()}", err=True)
            raise Refused("program") from error
        if result.error is not None:
            kind = result.error.kind if result.error.kind in KINDS else "program"
            if is_outage(kind):
                click.echo(f"lmprog: {id}: {result.error}", err=True)
            raise Refused(kind, result.error.path)
        seconds = round(time.perf_counter() - started, 6)
        try:
            answer = {"outputs": result.outputs, "usage": usage_of(result), "seconds": seconds, "id": id}
            return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"
        except (ValueError, TypeError, RecursionError) as error:
            # Numbers that are not finite, objects of a tool, nesting that is too deep.
            click.echo(f"lmprog: {id}: the outputs cannot be written as JSON: {error}", err=True)
            raise Refused("program", "outputs", "the outputs cannot be written as JSON") from error

    async def _traced(self, inputs: Mapping[str, Any], id: str, options: RunOptions) -> Result:
        """Run once, with the seeds of `lmprog run`; the trace has what was done even where the run is cancelled."""
        program = self.program
        READABLE.set(self._files)
        execution = Execution(program.plan, program.lms, program.resources, options, 0)
        try:
            outputs, error = await execution.execute(inputs)
        finally:
            if self.trace is not None:
                self._keep(self.trace, [replace(record, example=id) for record in execution.run.records()])
        return Result(outputs, execution.run.records(), error)

    def _keep(self, trace: TraceWriter, records: Sequence[Record]) -> None:
        """Append the records to the trace. Raises Refused where the disk takes no more."""
        try:
            trace.write(records)
        except OSError as error:
            click.echo(f"lmprog: {trace.path} cannot be written: {error.strerror or error}", err=True)
            raise Refused("server") from error


class Stream:
    """The response to a request as a stream of server-sent events."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def begin(self) -> None:
        """Send the headers of the response."""
        self.begun = True
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def tell(self, event: Event) -> None:
        """Send an event of the run: a piece of a reply, or a call that has ended (without the cause of a failure)."""
        plain: dict[str, Any] = {"path": event.path, "module": event.module, "attempt": event.attempt}
        if isinstance(event, TextPiece):
            if event.text is None:
                await self._event("restart", plain)
            else:
                await self._event("text", plain | {"piece": event.text})
        elif isinstance(event, CallEnded):
            ended = {"tool": event.tool, "seconds": round(event.seconds, 6), "failed": event.error is not None}
            await self._event("record", plain | ended)

    async def end(self, name: str, value: bytes) -> None:
        """Send the last event, and end the response."""
        await self._send_event(name, value)
        await self._send({"type": "http.response.body", "body": b""})

    async def _event(self, name: str, value: Mapping[str, Any]) -> None:
        await self._send_event(name, as_line(value))

    async def _send_event(self, name: str, line: bytes) -> None:
        body = f"event: {name}\ndata: ".encode() + line + b"\n"
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


async def unless_gone(work: Awaitable[Response | None], receive: Receive) -> Response | None:
    """Return the result of `work`; if the client disconnects first, cancel the work and raise ClientDisconnect."""

    async def leaving() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(work), asyncio.ensure_future(leaving())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()  # type: ignore[no-any-return]
        raise ClientDisconnect
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def usage_of(result: Result) -> dict[str, Any]:
    """Return the LM calls, tokens and cost of a run as plain values; `usd` is None where a price is unknown."""
    used = [record.usage for record in result.trace if record.usage is not None]
    prices = [usage.usd for usage in used]
    return {
        "calls": len(result.trace),
        "prompt_tokens": sum(usage.prompt_tokens for usage in used),
        "completion_tokens": sum(usage.completion_tokens for usage in used),
        "usd": None if None in prices else sum(price for price in prices if price is not None),
    }


def _is_json(media_type: str) -> bool:
    """Return whether a body is declared as JSON.

    A page in a browser cannot declare that without a preflight request to the server.
    """
    kind = media_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _wants_stream(request: Request) -> bool:
    """Return whether to answer with a stream. Raises Refused for an unknown value of `stream`."""
    said = request.query_params.getlist("stream")
    if any(value not in ("0", "1") for value in said):
        raise Refused("query")
    return "1" in said or "text/event-stream" in request.headers.get("accept", "")
