"""One corpus of odd streams and bodies through both routes: the right value or the failure of its row, never another one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

import lmprog
from lmprog.compiler.backends import BUILT_IN
from lmprog.compiler.plan import LM
from lmprog.lms.lm import Request
from lmprog.lms.sending import as_sent
from lmprog.runtime.options import RunOptions
from tests.unit.lmprog.lms.api.server_for_api import DIRECT, LITELLM, Asked

ROUTES = pytest.mark.parametrize("route", [DIRECT, LITELLM])
HEAD = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "x"}
AGENT = """
    lmprog: 1
    inputs: {text: str}
    lms:
      remote:
        {model: MODEL, api_base: "${{ env.TEST_API_BASE }}", api_key: "${{ env.TEST_KEY }}", limits: {tries: 1}}
    tools:
      find: {python: "./tools.py:find", result: found, effects: read}
    modules:
      ask: {lm: remote, inputs: {text: str}, outputs: {reply: str}, tools: [find], retry: 0}
"""


def event(delta: dict[str, Any], finish: str | None = None) -> str:
    piece = {**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return f"data: {json.dumps(piece)}\n\n"


def stream(*events: str) -> web.Response:
    return web.Response(body="".join(events).encode(), headers={"Content-Type": "text/event-stream"})


def streamed(program: Any, rows: list[dict[str, str]]) -> list[Any]:
    async def run() -> list[Any]:
        return [result async for result in program.stream(rows, options=RunOptions(on_text=lambda piece: None))]

    return asyncio.run(run())


def part(id: str | None = None, name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**({} if id is None else {"id": id, "type": "function"}), "function": function, **more}


BOTH = ["a1", "b2"]
CALLS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "as documented": (
        [
            part("a", "find", '{"q": "a1"', index=0),
            part(None, None, "}", index=0),
            part("b", "find", '{"q": "b2"}', index=1),
        ],
        BOTH,
    ),
    "no index": ([part("a", "find", '{"q": "a1"}'), part("b", "find", '{"q": "b2"}')], BOTH),
    "the same index": (
        [part("a", "find", '{"q": "a1"}', index=0), part("b", "find", '{"q": "b2"}', index=0)],
        BOTH,
    ),
    "the name and id again": (
        [
            part("a", "find", '{"q": ', index=0),
            part("a", "find", '"a1"}', index=0),
            part("b", "find", '{"q": "b2"}', index=1),
        ],
        BOTH,
    ),
    "arguments as an object": ([part("a", "find", {"q": "a1"}, index=0)], ["a1"]),
    "no id": ([part(None, "find", '{"q": "a1"}', index=0)], ["a1"]),
    "a name in pieces": ([part("a", "fi", "", index=0), part(None, "nd", '{"q": "a1"}', index=0)], ["a1"]),
    "the index as a text": ([part("a", "find", '{"q": "a1"}', index="0")], ["a1"]),
}


@ROUTES
@pytest.mark.parametrize(("parts", "wanted"), CALLS.values(), ids=CALLS)
def test_streamed_calls_of_tools(remote, server, write, route, parts, wanted) -> None:
    """Each call is made as it was written, or the row fails: no name is doubled and no argument is another's."""
    write("def find(q: str) -> str:\n    return q.upper()\n", "tools.py")

    def answer(asked: Asked) -> Any:
        if any(turn["role"] == "tool" for turn in asked.body["messages"]):
            return stream(event({"content": "done"}), event({}, "stop"), "data: [DONE]\n\n")
        deltas = [event({"role": "assistant", "tool_calls": [made]}) for made in parts]
        return stream(*deltas, event({}, "tool_calls"), "data: [DONE]\n\n")

    server.answer = answer
    remote(route)  # sets the environment
    program = lmprog.load(write(AGENT.replace("MODEL", route), "agent.yaml"))
    (result,) = streamed(program, [{"text": "x"}])
    made = result.tool_calls
    if route == DIRECT:
        assert result.outputs == {"reply": "done"}, result.error
        assert [record.arguments for record in made] == [{"q": q} for q in wanted]
    # What litellm itself joins wrongly is told to the LM as a call that cannot be made; it is never made.
    for record in made:
        assert record.error is not None or record.arguments["q"] in wanted
        assert record.error is not None or record.result == record.arguments["q"].upper()
    assert result.error is None or "Traceback" not in str(result.error)


@pytest.mark.slow
@ROUTES
def test_a_stream_cut_at_every_byte(remote, server, route) -> None:
    whole = (event({"content": "12"}) + event({"content": "50"}, "stop") + "data: [DONE]\n\n").encode()
    cuts = range(0, len(whole) + 1, 1 if route == DIRECT else 3)

    def answer(asked: Asked) -> Any:
        body = whole[: int(asked.body["messages"][-1]["content"].split()[-1])]
        return web.Response(body=body, headers={"Content-Type": "text/event-stream"})

    server.answer = answer
    program = remote(
        route, **{"timeout: 20": "timeout: 20, tries: 1", "outputs: {reply: str}": "outputs: {reply: int}, retry: 0"}
    )
    for cut, result in zip(cuts, streamed(program, [{"text": f"cut {cut}"} for cut in cuts]), strict=True):
        if result.outputs is None:
            assert result.error is not None and "Traceback" not in str(result.error)
        else:
            assert result.outputs == {"reply": 1250}, cut
    assert result.outputs == {"reply": 1250}


@pytest.mark.slow
@ROUTES
def test_a_body_cut_at_every_byte(remote, server, route) -> None:
    message = {"role": "assistant", "content": "1250", "reasoning_content": "12"}
    made = {**HEAD, "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    whole = json.dumps(made).encode()
    cuts = range(0, len(whole) + 1, 1 if route == DIRECT else 3)

    def answer(asked: Asked) -> Any:
        body = whole[: int(asked.body["messages"][-1]["content"].split()[-1])]
        return web.Response(body=body, headers={"Content-Type": "application/json"})

    server.answer = answer
    program = remote(
        route, **{"timeout: 20": "timeout: 20, tries: 1", "outputs: {reply: str}": "outputs: {reply: int}, retry: 0"}
    )
    results = program.map([{"text": f"cut {cut}"} for cut in (*cuts, len(whole))])
    assert all(result.outputs == {"reply": 1250} or result.error is not None for result in results)
    assert all("Traceback" not in str(result.error) for result in results)
    assert results[-1].outputs == {"reply": 1250}


KEEP_ALIVE = ": OPENROUTER PROCESSING\n\n"
STREAMS = {
    "lines to keep alive": (
        [KEEP_ALIVE, event({"content": "al"}), KEEP_ALIVE, event({"content": "pha"}, "stop")],
        True,
    ),
    "usage that is null": (
        [event({"content": "alpha"}, "stop"), f"data: {json.dumps({**HEAD, 'choices': [], 'usage': None})}\n\n"],
        True,
    ),
    "a piece without choices": (
        [f"data: {json.dumps({**HEAD, 'choices': []})}\n\n", event({"content": "alpha"}, "stop")],
        True,
    ),
    "content that is null first": (
        [event({"role": "assistant", "content": None}), event({"content": "alpha"}, "stop")],
        True,
    ),
    "thinking of another name": ([event({"reasoning": "al"}), event({"content": "alpha"}, "stop")], True),
    "the end twice": ([event({"content": "alpha"}, "stop"), event({}, "stop")], True),
    "an event line": (["event: message\n" + event({"content": "alpha"}, "stop")], True),
    "thinking alone": ([event({"reasoning_content": "alpha"}, "stop")], False),
    "a filter": ([event({"content": "al"}), event({}, "content_filter")], False),
}


@ROUTES
@pytest.mark.parametrize(("events", "right"), STREAMS.values(), ids=STREAMS)
def test_odd_streams(remote, server, route, events, right) -> None:
    server.answer = lambda asked: stream(*events, "data: [DONE]\n\n")
    program = remote(
        route, **{"timeout: 20": "timeout: 20, tries: 1", "outputs: {reply: str}": "outputs: {reply: str}, retry: 0"}
    )
    (result,) = streamed(program, [{"text": "x"}])
    if right and (route == DIRECT or result.error is None):
        assert result.outputs == {"reply": "alpha"}, result.error
    else:
        assert result.outputs is None and "Traceback" not in str(result.error)


@pytest.mark.parametrize("prefix", sorted(prefix for prefix, backend in BUILT_IN.items() if not backend.seeded))
def test_a_provider_without_a_seed_takes_none_by_litellm_either(prefix: str) -> None:
    litellm = pytest.importorskip("litellm")
    model = "anthropic.claude-3-sonnet-20240229-v1:0" if prefix == "bedrock" else "x"
    assert "seed" not in (litellm.get_supported_openai_params(f"{prefix}/{model}") or ())
    request = Request(({"role": "user", "content": "a"},), {"max_tokens": 5}, seed=7)
    assert "seed" not in as_sent(LM("lm", f"{prefix}/{model}"), request)
    assert as_sent(LM("lm", "groq/x"), request)["seed"] == 7
