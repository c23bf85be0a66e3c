"""Agents, in both ways of calling tools: turns, what tools answer, what goes wrong, the records and their places."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lmprog import Completion, Request
from lmprog.compiler.types.python_reference import load
from lmprog.lms.lm import ToolCall
from lmprog.runtime.options import RunOptions
from tests.waiting import until_true

TOOLS = """
import asyncio

cancelled, at_work = [], [0]

def find(query: str, k: int = 2) -> list[str]:
    \"\"\"Finds pages.

    Everything else is for programmers.
    \"\"\"
    if query == "none":
        raise LookupError("no page")
    return [f"{query} {number}" for number in range(k)]

async def wait(seconds: float) -> str:
    \"\"\"Waits.\"\"\"
    at_work.append(at_work[-1] + 1)
    try:
        await asyncio.sleep(seconds)
        at_work.append(at_work[-1] - 1)
    except asyncio.CancelledError:
        cancelled.append(seconds)
        raise
    return f"waited {seconds}"
"""
SPEC = """
    lmprog: 1
    lms: {{lm: {{model: openai/none, tool_protocol: {protocol}}}}}
    inputs: {{question: str}}
    tools:
      find: {{python: "./tools.py:find", result: found}}
      wait: {{python: "./tools.py:wait", timeout: 1}}
    modules:
      ask:
        lm: lm
        inputs: {{question: str}}
        outputs: {{answer: str, sure: bool}}
        instructions: Answer.
        tools: [find, wait]{more}
"""
ANSWER = "<answer>Oslo</answer>\n<sure>true</sure>"
PROTOCOLS = ("text", "native")


@pytest.fixture
def made(write, scripted):
    """An agent that replies with each of `replies`: a text, or calls as a list of (tool, arguments)."""
    import lmprog

    def made(protocol: str, *replies: Any, more: str = "", delay: float = 0.0) -> tuple[lmprog.Program, Any]:
        write(TOOLS, "tools.py")
        path = write(SPEC.format(protocol=protocol, more="".join(f"\n        {line}" for line in more.split("\n"))))
        left = list(replies)

        def answer(request: Request) -> Completion:
            reply = left.pop(0) if left else ANSWER
            if isinstance(reply, str):
                return Completion(text=reply)
            if protocol == "text":
                calls = [f"<call>{json.dumps({'tool': tool, 'arguments': given})}</call>" for tool, given in reply]
                return Completion(text="I look.\n" + "\n".join(calls))
            calls = [
                ToolCall(f"id{place}", tool, given, json.dumps(given)) for place, (tool, given) in enumerate(reply)
            ]
            return Completion(text="", tool_calls=calls, finish_reason="tool_calls")

        lm = scripted(answer, delay)
        return lmprog.load(path, lms={"lm": lm}), lm

    return made


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_calls_tools_until_it_answers(made, protocol) -> None:
    program, lm = made(protocol, [("find", {"query": "Oslo"}), ("find", {"query": "Rome", "k": 1})], ANSWER)
    result = asyncio.run(program.run({"question": "Where?"}))
    assert result.outputs == {"answer": "Oslo", "sure": True}
    assert [(made.tool, made.arguments, made.result, made.module) for made in result.tool_calls] == [
        ("find", {"query": "Oslo"}, ["Oslo 0", "Oslo 1"], "ask"),
        ("find", {"query": "Rome", "k": 1}, ["Rome 0"], "ask"),
    ]
    assert [type(record).__name__ for record in result.records] == [
        "Invocation", "ToolInvocation", "ToolInvocation", "Invocation",
    ]  # fmt: skip
    first, second = result.trace
    assert (first.call, second.call, first.attempt, second.attempt) == (0, 1, 0, 0)
    assert first.outputs is None and first.error is None and second.outputs == result.outputs
    assert first.seed != second.seed and len({request.key for request in lm.requests}) == 2
    assert second.messages[: len(first.messages)] == first.messages


def test_native_turns_are_in_the_form_of_the_api(made) -> None:
    program, lm = made("native", [("find", {"query": "Oslo"}), ("fly", {})], ANSWER)
    asyncio.run(program.run({"question": "Where?"}))
    first, second = lm.requests
    assert [offer.name for offer in first.tools] == ["find", "wait"]
    assert first.tools[0].description == "Finds pages."
    assert first.tools[0].parameters == {
        "type": "object",
        "properties": {"query": {"type": "string"}, "k": {"type": "integer"}},
        "required": ["query"],
        "additionalProperties": False,
    }
    assert "find" not in first.messages[0]["content"]
    assert list(second.messages[len(first.messages) :]) == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "id0", "type": "function", "function": {"name": "find", "arguments": '{"query": "Oslo"}'}},
                {"id": "id1", "type": "function", "function": {"name": "fly", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "id0", "content": '["Oslo 0", "Oslo 1"]'},
        {"role": "tool", "tool_call_id": "id1", "content": "error: there is no tool 'fly'; the tools are find, wait"},
    ]


def test_the_text_protocol_is_in_the_constant_head(made) -> None:
    program, lm = made("text", [("find", {"query": "Oslo", "k": 1})], ANSWER)
    asyncio.run(program.run({"question": "Where?"}))
    first, second = lm.requests
    assert not first.tools
    system = first.messages[0]["content"]
    assert system.startswith("Answer.") and system.endswith(
        "- find(query: str, k?: int): Finds pages.\n- wait(seconds: float): Waits."
    )
    assert first.constant == (1, 0) and second.constant == (1, 0)
    assert second.messages[0] == first.messages[0]
    assert list(second.messages[2:]) == [
        {
            "role": "assistant",
            "content": 'I look.\n<call>{"tool": "find", "arguments": {"query": "Oslo", "k": 1}}</call>',
        },
        {"role": "user", "content": '<result tool="find">["Oslo 0"]</result>'},
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("fly", {}), "there is no tool 'fly'; the tools are find, wait"),
        (("find", {}), "find lacks the argument 'query'"),
        (("find", {"query": 3}), "the argument 'query' of find: 3 is not a value of type str"),
        (("find", {"query": "a", "n": 3}), "find takes no argument 'n'; it takes query, k"),
        (("find", {"query": "none"}), "find raised LookupError: no page (tools.py:11)"),
        pytest.param(("wait", {"seconds": 60}), "wait did not end within 1 seconds", marks=pytest.mark.slow),
    ],
)
def test_what_goes_wrong_is_told_to_the_lm_and_traced(made, protocol, call, said) -> None:
    program, lm = made(protocol, [call], ANSWER)
    result = asyncio.run(program.run({"question": "Where?"}))
    assert result.error is None
    assert said in lm.requests[1].messages[-1]["content"] and "error" in lm.requests[1].messages[-1]["content"]
    (record,) = result.tool_calls
    assert (record.tool, record.error, record.module) == (call[0], said, "ask")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_argument_given_as_nothing_is_left_out(made, protocol) -> None:
    program, _ = made(protocol, [("find", {"query": "Oslo", "k": None})], ANSWER)
    assert asyncio.run(program.run({"question": "Where?"})).tool_calls[0].result == ["Oslo 0", "Oslo 1"]


def test_a_call_that_cannot_be_read_is_told(made) -> None:
    program, lm = made("text", "<call>find Oslo</call>", '<call>{"name": "find"}</call>', ANSWER)
    result = asyncio.run(program.run({"question": "Where?"}))
    assert result.error is None and len(result.tool_calls) == 2
    assert "no JSON object" in lm.requests[1].messages[-1]["content"]
    assert 'a call is {"tool": "name"' in lm.requests[2].messages[-1]["content"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_calls_of_one_turn_run_at_the_same_time(made, protocol) -> None:
    program, _ = made(protocol, [("wait", {"seconds": seconds}) for seconds in (0.2, 0.1, 0.2)], ANSWER)
    result = asyncio.run(program.run({"question": "Where?"}))
    assert max(load(program.plan.tools["wait"].python).__globals__["at_work"]) == 3
    assert [record.result for record in result.tool_calls] == ["waited 0.2", "waited 0.1", "waited 0.2"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_last_turn_has_no_tools_and_must_answer(made, protocol) -> None:
    calls = [("find", {"query": "Oslo"})]
    program, lm = made(protocol, calls, calls, calls, calls, more="max_turns: 3")
    result = asyncio.run(program.run({"question": "Where?"}))
    assert len(lm.requests) == 3 and not lm.requests[-1].tools
    assert lm.requests[-1].messages[-1]["content"].endswith("Reply now, as asked at the start.")
    assert "Reply now" not in str(lm.requests[-2].messages)
    assert (result.error.kind, result.error.path) == ("unreadable", "ask")
    assert "it calls a tool" in result.error.message
    assert len(result.tool_calls) == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_retries_share_the_place_of_their_turn(made, protocol) -> None:
    program, lm = made(protocol, [("find", {"query": "Oslo"})], "what?", ANSWER, more="retry: 1")
    result = asyncio.run(program.run({"question": "Where?"}))
    assert result.outputs == {"answer": "Oslo", "sure": True}
    assert [(record.call, record.attempt) for record in result.trace] == [(0, 0), (1, 0), (1, 1)]
    assert len({record.seed for record in result.trace}) == 3
    assert "cannot be read" in lm.requests[2].messages[-1]["content"]
    program, _ = made(protocol, [("find", {"query": "Oslo"})], "what?", ANSWER, more="retry: 1")
    once = asyncio.run(program.run({"question": "Where?"}, options=RunOptions(retry=False)))
    assert once.error.kind == "unreadable"


def test_only_the_last_turn_is_held_to_the_type(made) -> None:
    program, lm = made("native", [("find", {"query": "a"})], [("find", {"query": "b"})], ANSWER, more="max_turns: 3")
    asyncio.run(program.run({"question": "Where?"}))
    assert [request.output_type is None for request in lm.requests] == [True, True, False]


def test_cancelling_leaves_no_call_at_work(made, tmp_path) -> None:
    program, _ = made("text", [("wait", {"seconds": 60.0}), ("wait", {"seconds": 61.0})])
    of_tools = load(program.plan.tools["wait"].python).__globals__

    async def run() -> None:
        task = asyncio.create_task(program.run({"question": "Where?"}))
        await until_true(lambda: of_tools["at_work"][-1] == 2, "both calls")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert sorted(of_tools["cancelled"]) == [60.0, 61.0]


def test_in_a_dry_run_it_answers_at_once(made) -> None:
    program, _ = made("text")
    result = asyncio.run(program.faked().run({"question": "Where?"}))
    assert result.outputs == {"answer": "(answer)", "sure": True} and not result.tool_calls


def test_an_agent_in_a_loop_is_recorded_in_the_order_of_the_plan(made) -> None:
    program, _ = made("text", more="max_turns: 2")
    path = program.plan.path
    steps = """
steps:
  each: {module: ask, foreach: "${{ [inputs.question, inputs.question] }}", with: {question: "${{ item }}"}}
outputs: {all: "${{ steps.each.answer }}"}
"""
    path.write_text(path.read_text() + steps)
    import lmprog

    class Busy:
        async def complete(self, request: Request) -> Completion:
            if "Reply now" in request.messages[-1]["content"]:
                return Completion(text=ANSWER)
            first = "each[0]" in request.key
            await asyncio.sleep(0.1 if first else 0.0)
            return Completion(text='<call>{"tool": "find", "arguments": {"query": "x"}}</call>')

    result = asyncio.run(lmprog.load(path, lms={"lm": Busy()}).run({"question": "Where?"}))
    told = [(record.path, getattr(record, "tool", "")) for record in result.records]
    assert told == [(f"each[{index}]", tool) for index in (0, 1) for tool in ("", "find", "")]
    assert [record.call for record in result.trace] == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_does_not_start_is_the_failure_of_the_run(protocol: str, write, scripted) -> None:
    pytest.importorskip("mcp")
    import lmprog
    from lmprog.blame import exit_status

    broken = 'find: {mcp: {command: no-such-program-here, tool: find, output: "list[str]"}, result: found}'
    text = SPEC.format(protocol=protocol, more="").replace('find: {python: "./tools.py:find", result: found}', broken)
    write(TOOLS, "tools.py")
    write(json.dumps({"name": "find", "inputSchema": {"properties": {"query": {"type": "string"}}}}), "schema.json")
    path = write(text.replace("tool: find, output", "tool: find, schema: schema.json, output"))
    asked: list[Request] = []

    def answer(request: Request) -> Completion:
        asked.append(request)
        given = {"query": "a"}
        if protocol == "text":
            return Completion(text=f"<call>{json.dumps({'tool': 'find', 'arguments': given})}</call>")
        call = ToolCall("id0", "find", given, json.dumps(given))
        return Completion(text="", tool_calls=[call], finish_reason="tool_calls")

    result = asyncio.run(lmprog.load(path, lms={"lm": scripted(answer)}).run({"question": "q"}))
    assert result.error is not None and "the MCP server does not start" in str(result.error)
    assert exit_status([result.error.kind]) == 3 and len(asked) == 1


def test_the_calls_of_demos_are_sent_in_the_form_of_the_api(write, provider) -> None:
    import lmprog

    write(TOOLS, "tools.py")
    more = """
        demos:
          - question: Where?
            tool_calls: [{tool: find, arguments: {query: Oslo}, result: [Oslo 0]}]
            answer: Oslo
            sure: true"""
    spec = SPEC.format(protocol="native", more=more).replace(
        "model: openai/none", f'model: openai/x, api_key: none, api_base: "{provider.url}"'
    )
    provider.otherwise = ANSWER
    assert lmprog.load(write(spec))(question="And Rome?").outputs == {"answer": "Oslo", "sure": True}
    (request,) = provider.requests
    assert [turn["role"] for turn in request["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    asked, given = request["messages"][2:4]
    (call,) = asked["tool_calls"]
    assert call["function"] == {"name": "find", "arguments": '{"query": "Oslo"}'} and given["content"] == '["Oslo 0"]'
    assert given["tool_call_id"] == call["id"] and [tool["function"]["name"] for tool in request["tools"]] == [
        "find",
        "wait",
    ]
