"""The tools of a chat's client: the programs that take them, their forms, and the turns that wait for results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lmprog.compiler.plan import Plan
from lmprog.lms.lm import ToolCall
from lmprog.runtime.client_tools import ClientCalls
from lmprog.serving.client_tools import WaitingTurns, client_tools, with_calls_answered
from lmprog.serving.refusals import Refused

TOOLS = """
    name: desk
    inputs: {talk: messages}
    outputs: {reply: "${{ steps.say.reply }}"}
    tools: {note: {python: "./notes.py:note", result: noted}}
"""
SAY = "say: {inputs: {talk: messages}, outputs: {reply: str}, tools: [note], max_turns: 3}"
STEP = 'say: {module: say, with: {talk: "${{ inputs.talk }}"}}'
NOTES = "def note(text: str) -> str:\n    return text\n"


def tool(name: Any = "weather", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


@pytest.fixture
def plan(program: Any) -> Any:
    def made(modules: str = SAY, steps: str = STEP) -> Plan:
        parts = "".join(f"      {line}\n" for line in modules.splitlines())
        order = "".join(f"      {line}\n" for line in steps.splitlines())
        text = f"{TOOLS}    modules:\n{parts}    steps:\n{order}"
        return program(text, notes__py=NOTES).plan  # type: ignore[no-any-return]

    return made


def test_an_agent_is_offered_what_the_client_sends(plan: Any) -> None:
    body = {"tools": [tool(description="The weather", strict=True), tool("time", parameters={"type": "object"})]}
    offered = client_tools(plan(), "talk", body, WaitingTurns())
    assert offered is not None and offered.step == "say"
    assert [(offer.name, offer.description, dict(offer.parameters)) for offer in offered.offers] == [
        ("weather", "The weather", {"type": "object", "properties": {}}),
        ("time", "", {"type": "object"}),
    ]
    assert offered.takes("time") and not offered.takes("note")
    none = client_tools(plan(), "talk", body | {"tool_choice": "none", "parallel_tool_calls": True}, WaitingTurns())
    assert none is not None and none.offers == ()


@pytest.mark.parametrize(
    ("modules", "steps", "said"),
    [
        (SAY.replace(", tools: [note], max_turns: 3", ""), STEP, "no agent"),
        (SAY.replace("outputs: {reply", 'prompt: {user: "{{ talk | tojson }}"}, outputs: {reply'), STEP, "no agent"),
        (SAY, 'copy: {value: "${{ inputs.talk }}"}\n' + STEP.replace("inputs.talk", "steps.copy.value"), "no agent"),
        (SAY, STEP.replace("say: {", 'say: {foreach: "${{ [1, 2] }}", '), "no agent"),
        (SAY, f"{STEP}\n{STEP.replace('say: {', 'more: {')}", "2 agents (say, more)"),
    ],
)
def test_a_program_without_one_agent_for_the_conversation(plan: Any, modules: str, steps: str, said: str) -> None:
    found = plan(modules, steps)
    with pytest.raises(Refused) as refused:
        client_tools(found, "talk", {"tools": [tool()]}, WaitingTurns())
    assert said in str(refused.value.message) and refused.value.status == 422
    assert client_tools(found, "talk", {"tools": []}, WaitingTurns()) is None


def test_an_agent_whose_calls_are_text_takes_no_tools(plan: Any) -> None:
    found = plan()
    text = replace(found, lms={id: replace(lm, tool_protocol="text") for id, lm in found.lms.items()})
    with pytest.raises(Refused, match="input"):
        client_tools(text, "talk", {"tools": [tool()]}, WaitingTurns())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"tools": "weather"}, "`tools` is a list"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "`tools` is a list"),
        ({"tools": [tool(7)]}, "and not 7"),
        ({"tools": [tool("the weather")]}, "and not 'the weather'"),
        ({"tools": [tool(parameters=[])]} | {"tools": [tool(parameters=["place"])]}, "the tool weather: `parameters`"),
        ({"tools": [tool("note")]}, "a tool note of its own"),
        ({"tools": [tool(), tool()]}, "the tool weather is there twice"),
        ({"tools": [tool()], "tool_choice": "required"}, "`tool_choice` is auto or none"),
        ({"tools": [tool()], "tool_choice": tool()}, "`tool_choice` is auto or none"),
        ({"tools": [tool()], "parallel_tool_calls": False}, "`parallel_tool_calls` cannot be false"),
    ],
)
def test_what_cannot_be_offered(plan: Any, body: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        client_tools(plan(), "talk", body, WaitingTurns())
    assert said in str(refused.value.message)


def asking(*ids: Any, role: str = "assistant") -> dict[str, Any]:
    made = [{"id": id, "type": "function", "function": {"name": "x", "arguments": "{}"}} for id in ids]
    return {"role": role, "tool_calls": made}


def answer(id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": "sun"}


@pytest.mark.parametrize(
    "messages",
    [
        [asking("a", "b"), answer("a")],
        [asking("a"), {"role": "user", "content": "and?"}, answer("a")],
        [asking(7), answer("7")],
        [asking("a", role="user"), answer("a")],
        [{"role": "assistant", "tool_calls": "a"}],
        [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "x", "arguments": {}}}]}, answer("a")],
    ],
)
def test_calls_have_a_form_and_results(messages: list[Any]) -> None:
    with pytest.raises(Refused, match="turn 0"):
        with_calls_answered(messages)


def test_a_turn_with_calls_needs_no_content() -> None:
    found = with_calls_answered([asking("a", "b"), answer("b"), answer("a")])
    assert found[0]["content"] is None and found[1:] == [answer("b"), answer("a")]


def test_turns_wait_until_there_are_too_many() -> None:
    made = ClientCalls((ToolCall("1", "x", {}, "{}"),), (asking("0"), answer("0"), asking("1")))
    waiting = WaitingTurns(limit=1000)
    (call,) = waiting.keep("first", made)
    talk = [asking(call["id"]), answer(call["id"])]
    assert waiting.restored(talk) == [*made.turns, answer("1")]
    said = {"role": "user", "content": "a", "tool_call_id": ["a"]}
    assert waiting.restored([*talk, said]) == [*made.turns, answer("1"), said]
    # A turn of which the client has left something out is sent as it is.
    assert waiting.restored([asking(call["id"], "z")]) == [asking(call["id"], "z")]
    for number in range(10):
        waiting.keep(f"run{number}", made)
    assert waiting.restored(talk) == talk


def test_a_result_names_its_call_by_a_text() -> None:
    with pytest.raises(Refused, match="turn 1"):
        with_calls_answered([{"role": "user", "content": "a"}, {**answer("a"), "tool_call_id": ["a"]}])
