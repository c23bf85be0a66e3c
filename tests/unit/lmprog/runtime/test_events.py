"""What a run tells while it is at work, in Python and over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import date
from functools import partial
from typing import Any

import pytest

from lmprog import Completion, Request, UsageError
from lmprog.runtime.events import CallEnded, TextPiece
from lmprog.runtime.options import RunOptions
from lmprog.runtime.result import Result
from lmprog.serving.gate import Gate
from lmprog.serving.refusals import Refused
from lmprog.serving.run_answer import RunAnswer
from lmprog.serving.running import Endpoint, Running
from lmprog.traces.files import TraceWriter
from tests.waiting import PATIENCE

SORT = """
    modules:
      sort: {inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}}
"""


class Writer:
    """An LM that tells pieces, from a thread of its own, and waits for `go_on` after each."""

    def __init__(self, *pieces: str | None) -> None:
        self.pieces = pieces
        self.go_on = threading.Semaphore(0)
        self.told: list[bool] = []

    async def complete(self, request: Request) -> Completion:
        self.told.append(request.on_text is not None)

        def write() -> None:
            for piece in self.pieces:
                if request.on_text is not None:
                    request.on_text(piece)
                    assert self.go_on.acquire(timeout=PATIENCE)

        await asyncio.to_thread(write)
        written = ""
        for piece in self.pieces:
            written = "" if piece is None else written + piece
        return Completion(text=written)


def test_pieces_come_while_the_reply_is_written(program) -> None:
    lm = Writer("bil", "ling")
    made = program(SORT, lm)

    async def listen() -> list[Any]:
        found = []
        async for event in made.events(text="x"):
            found.append(event)
            lm.go_on.release()
        return found

    first, second, ended, result = asyncio.run(listen())
    assert [first, second] == [TextPiece("sort", "sort", 0, piece) for piece in ("bil", "ling")]
    assert isinstance(ended, CallEnded) and (ended.path, ended.module, ended.tool, ended.error) == (
        "sort", "sort", None, None,
    )  # fmt: skip
    assert isinstance(result, Result) and result.outputs == {"label": "billing"}


def test_without_a_listener_nothing_is_asked_to_stream(program) -> None:
    lm = Writer("refund")
    assert program(SORT, lm)(text="x").outputs == {"label": "refund"}
    assert lm.told == [False]


def test_a_failed_run_is_told_and_wrong_inputs_raise(program, scripted) -> None:
    made = program(SORT.replace("]}}}", "]}}, retry: 1}"), scripted(lambda request: "neither"))

    async def listen(**inputs: Any) -> list[Any]:
        return [event async for event in made.events(**inputs)]

    *ended, result = asyncio.run(listen(text="x"))
    assert [event.attempt for event in ended] == [0, 1] and all(event.error for event in ended)
    assert result.outputs is None and result.error.kind == "unreadable"
    with pytest.raises(UsageError, match="text"):
        asyncio.run(listen())
    # Values are made plain as those of a call are.
    assert asyncio.run(listen(text=date(2026, 1, 2)))[-1].inputs == {"text": "2026-01-02"}


def test_leaving_cancels_the_run(program, scripted) -> None:
    lm = scripted(lambda request: "billing", delay=60)
    made = program(SORT, lm)

    async def leave() -> None:
        async def listen() -> None:
            async for _ in made.events(text="x"):
                pass

        listening = asyncio.create_task(listen())
        while not lm.active:
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert lm.active == 0

    asyncio.run(leave())


def test_pieces_go_over_http_as_they_come(program) -> None:
    lm = Writer("bil", None, "refund")
    made = program(SORT, lm)
    sent: list[tuple[str, Any]] = []

    async def ask() -> None:
        messages = [{"type": "http.request", "body": b'{"text": "x"}', "more_body": False}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            if body := message.get("body"):
                name, data = body.decode().strip().split("\n")
                sent.append((name, json.loads(data.removeprefix("data: "))))
                # Only now does the LM write on: an answer that is kept back until its end would never come.
                lm.go_on.release()

        ready = asyncio.Event()
        ready.set()
        running = Running(made, RunOptions(), Gate(1, 0), ready, 20.0, 1000)
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/run", "query_string": b"stream=1", "headers": headers}
        await Endpoint(running, partial(RunAnswer, made.plan))(scope, receive, send)

    asyncio.run(ask())
    assert [name for name, _ in sent] == [
        "event: text", "event: restart", "event: text", "event: record", "event: result",
    ]  # fmt: skip
    assert sent[0][1] == {"path": "sort", "module": "sort", "attempt": 0, "piece": "bil"}
    assert sent[-1][1]["outputs"] == {"label": "refund"}


def test_an_exporter_that_cannot_be_made_is_named_beside_a_trace(
    program, scripted, monkeypatch, capsys, tmp_path
) -> None:
    def exports(plan: Any) -> Any:
        raise UsageError("no collector")

    monkeypatch.setattr("lmprog.runtime.resources.exporters", exports)

    async def run() -> None:
        ready = asyncio.Event()
        ready.set()
        with TraceWriter(tmp_path / "trace.jsonl") as trace:
            made = program(SORT, scripted(lambda request: "billing"))
            await Running(made, RunOptions(), Gate(1, 0), ready, 20.0, 1000, trace).result({"text": "x"}, "id")

    with pytest.raises(Refused):
        asyncio.run(run())
    assert capsys.readouterr().err == "lmprog: id: no collector\n"
