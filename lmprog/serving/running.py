"""The runs of a server: one request, the run that answers it, and the cancellation of both together."""

from __future__ import annotations

import asyncio
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import click
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lmprog.blame import is_outage
from lmprog.errors import InfrastructureError, LmprogError
from lmprog.failure import Failure
from lmprog.lms.images import READABLE
from lmprog.runtime.client_tools import ClientTools
from lmprog.runtime.events import Event, Listener, followed
from lmprog.runtime.execution import Execution
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.runtime.result import Result
from lmprog.runtime.run import exported
from lmprog.serving.connection import SECONDS
from lmprog.serving.gate import Gate
from lmprog.serving.inputs import checked, files_of, read_body
from lmprog.serving.metrics import ServerMetrics
from lmprog.serving.refusals import KINDS, Refused
from lmprog.serving.request_tags import tags_of
from lmprog.traces.files import TraceWriter
from lmprog.traces.record import Record
from lmprog.traces.run_record import RunRecord, RunRecorder

CLIENT_GONE = 499
"""Status in the access log for a request whose client has disconnected."""


class Answer(Protocol):
    """The interface of the response to one request by a protocol (`/run`, chat): it reads the inputs from the request, and
    writes outputs or events."""

    @property
    def streams(self) -> bool:
        """True if the client gets a stream of events; known after `inputs` has returned."""

    @property
    def client_tools(self) -> ClientTools | None:
        """The tools of the client for this run (None: it has none); known after `inputs` has returned."""

    def inputs(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the program's inputs by name from the body of the request. Raises Refused where it does not fit."""

    def tags(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the tags that the body gives the run for its traces, by name, unchecked; empty where the protocol has
        no place for them in the body (`/run`), or the body has none.

        Raises Refused where that place holds no object.
        """

    async def begin(self) -> None:
        """Send the headers of a stream, and what its protocol wants first."""

    async def tell(self, event: Event) -> None:
        """Send an event of the run to the client of a stream. Raises Refused where the protocol cannot express it."""

    async def end(self, result: Result, id: str, seconds: float) -> Response | None:
        """Return the response with the run's outputs; for a stream send its end and return None.

        `id` is the run's, `seconds` the time that it took. Raises ValueError, TypeError or RecursionError for outputs that are
        no JSON, and Refused where they contradict what was streamed.
        """

    async def refuse(self, refused: Refused) -> Response | None:
        """Return an error response; where a stream has begun, send the error as its end and return None."""


@dataclass
class Running:
    """The runs of a server: of one program with these options, admitted by the gate, counted in `metrics`, cancelled
    when their client leaves or they take longer than `seconds`.

    `ready` is set when the models are loaded; a body may have `max_body` bytes and take `body_seconds` to arrive;
    `trace` gets the records of the runs (None: no file).
    """

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
    metrics: ServerMetrics = field(default_factory=ServerMetrics)

    def __post_init__(self) -> None:
        self._files = files_of(self.program.plan)
        self._recorder = RunRecorder(self.program.plan)

    async def body(self, request: Request) -> dict[str, Any]:
        """Return the body of a request, read as a JSON object. Raises Refused where it is none or not declared as JSON, has
        more than `max_body` bytes, or takes too long, and ClientDisconnect where the client leaves."""
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
        return read_body(body)

    async def answered(
        self, inputs: Mapping[str, Any], id: str, answer: Answer, tags: Mapping[str, str]
    ) -> Response | None:
        """Run the program on `inputs` (checked before) and return the response of `answer`, also for a run that is refused
        or failed; None where it was sent as a stream. `id` is the run's, `tags` go into its trace."""
        try:
            streamed = answer if answer.streams else None
            result, seconds = await self.result(inputs, id, streamed, tags, answer.client_tools)
            try:
                return await answer.end(result, id, seconds)
            except (ValueError, TypeError, RecursionError) as error:
                # Numbers that are not finite, objects of a tool, nesting that is too deep.
                click.echo(f"lmprog: {id}: the outputs cannot be written as JSON: {error}", err=True)
                raise Refused("program", "outputs", "the outputs cannot be written as JSON") from error
        except Refused as refused:
            return await answer.refuse(refused)

    async def result(
        self,
        inputs: Mapping[str, Any],
        id: str,
        answer: Answer | None = None,
        tags: Mapping[str, str] | None = None,
        client: ClientTools | None = None,
    ) -> tuple[Result, float]:
        """Run the program on `inputs` (checked before) once the gate admits it and the models are loaded; return its result,
        which has outputs or calls of the client's tools, and the seconds that it took since then.

        `answer` is sent the run's events as a stream (None: they are dropped), the trace gets `tags` (None: no further ones),
        and an agent the tools of `client` (None: none). `id` is the run's. Raises Refused where the run failed, was not
        admitted, or took longer than `seconds`, waiting included.
        """
        try:
            async with asyncio.timeout(self.seconds) as limit, self.gate:
                await self.ready.wait()
                started = time.perf_counter()
                options = replace(self.options, tags={**self.options.tags, **(tags or {})}, client=client)
                result = await self._run(inputs, id, answer, options)
                return result, round(time.perf_counter() - started, 6)
        except TimeoutError:
            if not limit.expired():
                raise
            raise Refused("timeout") from None

    async def _run(self, inputs: Mapping[str, Any], id: str, answer: Answer | None, options: RunOptions) -> Result:
        """Run once, with the run's events sent to `answer` (None: they are dropped), and return the result. Raises Refused
        where the run failed; the message of an error that concerns the server's operator is printed."""
        try:
            if answer is None:
                result = await self._traced(inputs, id, options)
            else:
                await answer.begin()

                def begin(tell: Listener) -> Any:
                    return self._traced(inputs, id, replace(options, on_text=tell, on_record=tell))

                async with aclosing(followed(begin)) as events:
                    async for event in events:
                        if isinstance(event, Result):
                            result = event
                        else:
                            await answer.tell(event)
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
        return result

    async def _traced(self, inputs: Mapping[str, Any], id: str, options: RunOptions) -> Result:
        """Run once, with the seeds of `lmprog run` (row 0), and return the result, which may be a failure; the exporters and
        the trace, where records have the run's `id` as their row, get what was done even where the run is cancelled. Raises
        Refused where the trace cannot be written."""
        program = self.program
        READABLE.set(self._files)
        execution = Execution(program.plan, program.lms, program.resources, options, 0)
        exports = program.resources.exports(program.plan)
        try:
            with self.metrics.running.track_inprogress(), exported(execution.run, exports) as trace:
                trace.inputs = inputs
                trace.outputs, trace.error = await execution.execute(inputs)
        finally:
            records = execution.run.records()
            self.metrics.ran(records)
            if self.trace is not None:
                error = trace.error
                made = execution.run.client_calls
                if trace.outputs is None and error is None and made is None:
                    error = Failure("cancelled", "the run was cut short", "run")
                record = self._recorder.record(
                    inputs,
                    trace.outputs,
                    error,
                    records,
                    example=id,
                    tags=options.tags,
                    client_calls=made.calls if made else (),
                )
                self._keep(self.trace, [*(replace(call, example=id) for call in records), record])
        run = execution.run
        return Result(trace.outputs, records, trace.error, inputs, run.client_calls, run.recovered())

    def _keep(self, trace: TraceWriter, records: Sequence[Record | RunRecord]) -> None:
        """Append the records to the trace. Raises Refused where that fails, and prints why."""
        try:
            trace.write(records)
        except OSError as error:
            click.echo(f"lmprog: {trace.path} cannot be written: {error.strerror or error}", err=True)
            raise Refused("server") from error


@dataclass(frozen=True)
class Endpoint:
    """The ASGI application for one protocol: each request is answered by a run of the program that `running` makes, or by a
    refusal. The run is cancelled when its client disconnects.

    `form` makes the Answer from the request, the ASGI function that sends, and the run's id.
    """

    running: Running
    form: Callable[[Request, Send, str], Answer]
    """Makes the answer to a request; the text is the id of the run."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        answer: Answer | None = None
        id = uuid.uuid4().hex
        try:
            answer = self.form(request, send, id)
            body = await self.running.body(request)
            inputs = answer.inputs(body)
            checked(self.running.program, inputs)
            tags = tags_of(request, answer.tags(body))
            scope.setdefault("state", {})["lmprog_run"] = id
            response = await unless_gone(self.running.answered(inputs, id, answer, tags), receive)
        except Refused as refused:
            response = refused.response if answer is None else await answer.refuse(refused)
        except ClientDisconnect:
            response = Response(status_code=CLIENT_GONE)
        if response is not None:
            await response(scope, receive, send)


async def unless_gone(work: Awaitable[Response | None], receive: Receive) -> Response | None:
    """Return the response that `work` makes (None: it has sent a stream); if the client disconnects first, as `receive`
    reports, cancel the work, wait for its end and raise ClientDisconnect."""

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


def _is_json(media_type: str) -> bool:
    """Return whether a body is declared as JSON.

    A page in a browser cannot declare that without a preflight request to the server.
    """
    kind = media_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
