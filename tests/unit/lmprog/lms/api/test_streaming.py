"""Replies that come in pieces, calls of tools, and what messages may hold, by both routes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from lmprog import ProviderError
from lmprog.lms.lm import Completion, Request, ToolOffer
from tests.unit.lmprog.lms.api.server_for_api import DIRECT, LITELLM, SPEC, failing_status, reply, streamed

PICTURE = "data:image/png;base64,iVBORw0KGgo="
LMPROG = Path(sys.executable).with_name("lmprog")
BOTH = pytest.mark.parametrize("model", [DIRECT, LITELLM])


def complete(program: Any, request: Request) -> Completion:
    return asyncio.run(program.lms["remote"].complete(request))


def hello(**more: Any) -> Request:
    return Request([{"role": "user", "content": "hi"}], **more)


@BOTH
def test_pieces_as_they_come_and_the_whole(remote, server, model) -> None:
    server.answer = lambda asked: streamed(["Hel", "lo ", "wörld"])
    told: list[str | None] = []
    made = complete(remote(model), hello(on_text=told.append))
    assert told == ["Hel", "lo ", "wörld"]
    assert (made.text, made.finish_reason, made.usage.prompt_tokens, made.usage.completion_tokens) == (
        "Hello wörld",
        "stop",
        11,
        3,
    )
    assert server.asked[0].body["stream"] is True
    assert server.asked[0].body["stream_options"] == {"include_usage": True}


@BOTH
def test_what_was_told_is_taken_back_when_the_stream_breaks_off(remote, server, model) -> None:
    ways = [streamed(["Hel", "lo"]), failing_status(500), streamed(["He", "x"], cut=True), failing_status(503)]
    server.answer = lambda asked: ways.pop()
    told: list[str | None] = []
    made = complete(remote(model), hello(on_text=told.append))
    assert made.text == "Hello"
    assert told == ["He", "x", None, "Hel", "lo"]


@BOTH
def test_calls_of_tools_in_pieces(remote, server, model) -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        made = {"index": index, "function": function}
        return {"tool_calls": [{**made, "id": f"c{index}", "type": "function"} if "name" in function else made]}

    pieces = [
        call(0, name="find", arguments=""),
        call(0, arguments='{"q": '),
        call(0, arguments='"x"}'),
        call(1, name="stop", arguments="{}"),
    ]
    server.answer = lambda asked: streamed(pieces)
    made = complete(remote(model), hello(on_text=lambda text: None))
    assert [(call.id, call.name, call.arguments) for call in made.tool_calls] == [
        ("c0", "find", {"q": "x"}),
        ("c1", "stop", {}),
    ]
    assert made.finish_reason == "tool_calls"


def test_a_server_that_does_not_stream_is_heard_at_once(remote, server) -> None:
    told: list[str | None] = []
    assert complete(remote(), hello(on_text=told.append)).text == "ok"
    assert told == ["ok"]


def test_litellm_hears_nothing_from_such_a_server_and_that_is_no_empty_reply(remote, server) -> None:
    program = remote(LITELLM, **{"timeout: 20": "tries: 2"})
    with pytest.raises(ProviderError, match=r"tried 2 times"):
        complete(program, hello(on_text=lambda text: None))


@pytest.mark.slow
def test_nothing_of_litellm_is_said_when_a_run_ends(write, server) -> None:
    spec = SPEC.replace("MODEL", LITELLM)
    rows = write("".join(f'{{"text": "{n}"}}\n' for n in range(60)), "rows.jsonl")
    command = [LMPROG, "run", write(spec), "--inputs", rows, "--out", rows.with_name("out.jsonl")]
    environment = {**os.environ, "TEST_API_BASE": server.url, "TEST_KEY": "none-needed"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, f"60 rows in {rows.with_name('out.jsonl')}\n")


def test_a_piece_may_be_long(remote, server) -> None:
    ids = {"prompt_token_ids": list(range(100_000)), "choices": [{"index": 0, "delta": {"role": "assistant"}}]}
    server.answer = lambda asked: streamed([ids, "ok"])
    made = complete(remote(), hello(on_text=lambda text: None))
    assert len(made.prompt_token_ids) == 100_000


@BOTH
def test_tools_and_turns_pass_through(remote, server, model) -> None:
    written = [
        ("a", "find", '{"q": "x"}'),
        ("b", "find", '{"q": '),
        ("c", "find", "[1]"),
        ("d", "stop", ""),
    ]
    calls = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id, name, arguments in written
    ]
    server.answer = lambda asked: reply(None, message={"role": "assistant", "content": None, "tool_calls": calls})
    turns = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": PICTURE}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": calls[:1]},
        {"role": "tool", "tool_call_id": "a", "content": "found"},
    ]
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    made = complete(remote(model), Request(turns, tools=[ToolOffer("find", "Finds.", schema)]))
    assert [(call.id, call.arguments, call.written) for call in made.tool_calls] == [
        ("a", {"q": "x"}, '{"q": "x"}'),
        ("b", None, '{"q": '),
        ("c", None, "[1]"),
        ("d", {}, ""),
    ]
    body = server.asked[0].body
    # litellm leaves out what is null.
    assert [{**sent, "content": sent.get("content")} for sent in body["messages"]] == turns
    assert body["tools"] == [
        {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": schema}}
    ]


def test_a_refusal_is_no_text_of_the_reply(remote, server) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I will not."}
    server.answer = lambda asked: reply(None, message=message)
    completion = complete(remote(), hello())
    assert completion.text == "" and completion.message["refusal"] == "I will not."


def test_tokens_that_were_cached_are_counted(remote, server) -> None:
    usage = {"prompt_tokens": 50, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 40}}
    server.answer = lambda asked: web.json_response({**reply("x"), "usage": usage})
    assert complete(remote(), hello()).usage.cached_tokens == 40
