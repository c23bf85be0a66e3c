"""OpenTelemetry: runs as spans and metrics after the GenAI conventions, to the SDK's own memory."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from lmprog import Completion, ProviderError, RunError, Usage, UsageError
from lmprog.lms.lm import ToolCall, ToolOffer
from lmprog.runtime.client_tools import ClientTools
from lmprog.runtime.options import RunOptions
from lmprog.traces.exports import close, export_to
from lmprog.traces.files import read_trace
from tests.waiting import until_true

TEXT = """
name: desk
inputs: {text: str}
outputs: {answer: "${{ steps.say.answer }}"}
tools: {look: {python: "./tools.py:look", result: found}}
modules:
  say: {inputs: {text: str, found: str}, outputs: {answer: {enum: [yes, no]}}, retry: 1}
steps:
  look: {tool: look, with: {text: "${{ inputs.text }}"}}
  say: {module: say, with: {text: "${{ inputs.text }}", found: "${{ steps.look.found }}"}}
"""
TOOLS = "def look(text):\n    return 'found ' + text\n"


def answer(request: Any) -> Any:
    said = str(request.messages)
    if "down" in said:
        return ProviderError("503")
    return Completion("maybe" if len(request.messages) == 2 and "odd" in said else "yes", usage=Usage(5, 1, 0.5, 2))


@pytest.fixture
def told() -> Iterator[Any]:
    """What the spans of this process are, with content where the test asks for it."""
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    ends = []

    def start(content: bool = False) -> InMemorySpanExporter:
        ends.append(export_to(provider, content=content))
        return memory

    yield start
    for end in ends:
        end()


def test_a_run_and_its_calls_are_spans_with_their_own_times(program, scripted, told) -> None:
    memory = told()
    desk = program(TEXT, scripted(answer, delay=0.02), tools__py=TOOLS)
    before = time.time()
    result = desk(text="odd")
    after = time.time()
    look, first, second, root = memory.get_finished_spans()
    assert [span.name for span in (look, first, second, root)] == [
        "execute_tool look", "chat none", "chat none", "invoke_agent desk",
    ]  # fmt: skip
    assert root.parent is None
    assert {span.parent.span_id for span in (look, first, second)} == {root.context.span_id}
    assert [span.kind for span in (look, first, root)] == [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.INTERNAL]
    assert before <= root.start_time / 1e9 <= first.start_time / 1e9
    assert second.end_time <= root.end_time + 1e6 and root.end_time / 1e9 <= after
    assert (first.end_time - first.start_time) / 1e9 == pytest.approx(result.trace[0].seconds, abs=1e-5)
    assert dict(second.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "none",
        "gen_ai.request.seed": result.trace[1].seed,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 1,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "lmprog.usd": 0.5,
        "lmprog.module": "say",
        "lmprog.program": "desk",
        "lmprog.path": "say",
        "lmprog.attempt": 1,
        "openinference.span.kind": "LLM",
    }
    assert dict(look.attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.type": "function",
        "lmprog.program": "desk",
        "lmprog.path": "look",
        "lmprog.attempt": 0,
        "openinference.span.kind": "TOOL",
    }
    assert dict(root.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "desk",
        "lmprog.example": 0,
        "lmprog.rollout": 0,
        "openinference.span.kind": "CHAIN",
    }
    assert (first.status.status_code, first.attributes["error.type"]) == (StatusCode.ERROR, "unreadable")
    assert second.status.status_code == root.status.status_code == StatusCode.UNSET


def test_content_goes_out_only_where_it_is_asked_for(program, scripted, told) -> None:
    desk = program(TEXT, scripted(answer), tools__py=TOOLS)
    memory = told()
    desk(text="odd-secret")
    assert "secret" not in "".join(span.to_json() for span in memory.get_finished_spans())
    assert "maybe" not in "".join(span.to_json() for span in memory.get_finished_spans())


def test_private_values_of_a_run_are_no_content(program, scripted, told) -> None:
    private = TEXT.replace("inputs: {text: str}", "inputs: {text: str, who: {type: str, private: true}}", 1)
    private = private.replace('answer }}"}', 'answer }}", who: "${{ inputs.who }}"}', 1)
    memory = told(content=True)
    program(private, scripted(answer), tools__py=TOOLS)(text="odd", who="SECRET")
    *_, root = memory.get_finished_spans()
    values = [json.loads(root.attributes[f"{side}.value"]) for side in ("input", "output")]
    assert values == [{"text": "odd"}, {"answer": "yes"}]


def test_an_error_that_quotes_half_a_surrogate_pair_can_be_sent(program, scripted, told) -> None:
    memory = told(content=True)
    desk = program(TEXT, scripted(answer), tools__py="def look(text):\n    raise ValueError(text)\n")
    with pytest.raises(RunError):
        desk(text="odd\ud83d")
    look, root = memory.get_finished_spans()
    for span in (look, root):
        assert "odd\\ud83d" in span.status.description and span.status.description.encode()


def test_content_is_written_as_the_conventions_have_it(program, scripted, told) -> None:
    desk = program(TEXT, scripted(answer), tools__py=TOOLS)
    memory = told(content=True)
    desk(text="odd\ud83d")
    look, first, _, _ = memory.get_finished_spans()
    assert json.loads(look.attributes["gen_ai.tool.call.arguments"]) == {"text": "odd\ud83d"}
    assert json.loads(look.attributes["gen_ai.tool.call.result"]) == "found odd\ud83d"
    said = json.loads(first.attributes["gen_ai.input.messages"])
    assert [message["role"] for message in said] == ["system", "user"]
    assert "odd\ud83d" in said[1]["parts"][0]["content"] and said[1]["parts"][0]["type"] == "text"
    assert json.loads(first.attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "maybe"}], "finish_reason": "stop"}
    ]
    assert "maybe" in first.status.description


def test_viewers_find_what_went_in_and_came_out(program, scripted, told) -> None:
    desk = program(TEXT, scripted(answer), tools__py=TOOLS)
    memory = told(content=True)
    desk(text="odd")
    look, first, _, root = memory.get_finished_spans()
    assert json.loads(root.attributes["input.value"]) == {"text": "odd"}
    assert json.loads(root.attributes["output.value"]) == {"answer": "yes"}
    assert (json.loads(look.attributes["input.value"]), look.attributes["output.value"]) == (
        {"text": "odd"},
        "found odd",
    )
    assert (first.attributes["output.value"], first.attributes["output.mime_type"]) == ("maybe", "text/plain")
    assert root.attributes["input.mime_type"] == "application/json"


def test_a_failed_run_is_a_failed_span(program, scripted, told) -> None:
    desk = program(TEXT, scripted(answer), tools__py=TOOLS)
    memory = told()
    assert asyncio.run(desk.run({"text": "down"})).error is not None
    _, chat, root = memory.get_finished_spans()
    assert [span.attributes["error.type"] for span in (chat, root)] == ["provider", "provider"]
    assert "gen_ai.response.finish_reasons" not in chat.attributes


def test_a_run_that_is_cancelled_is_told_too(program, scripted, told) -> None:
    lm = scripted(answer, delay=60.0)
    desk = program(TEXT, lm, tools__py=TOOLS)
    memory = told()

    async def cut() -> None:
        run = asyncio.create_task(desk.run({"text": "a"}))
        await until_true(lambda: lm.active, "the call")
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(cut())
    _, chat, root = memory.get_finished_spans()
    assert [span.attributes["error.type"] for span in (chat, root)] == ["cancelled", "cancelled"]


def test_tags_name_session_user_and_others_on_every_span(program, scripted, told) -> None:
    desk = program(TEXT, scripted(answer), tools__py=TOOLS).with_tags({"session": "s1", "app": "shop"})
    memory = told()
    result = desk(text="a", tags={"user": "u1", "app": "desk"})
    assert {record.tags["user"] for record in result.records} == {"u1"}
    assert result.trace[0].as_json()["tags"] == {"session": "s1", "app": "desk", "user": "u1"}
    expected = {
        "session.id": "s1",
        "gen_ai.conversation.id": "s1",
        "user.id": "u1",
        "lmprog.tag.app": "desk",
        "metadata": '{"app": "desk"}',
    }
    for span in memory.get_finished_spans():
        assert expected.items() <= dict(span.attributes).items()


def test_events_take_tags_too(program, scripted) -> None:
    desk = program(TEXT, scripted(answer), tools__py=TOOLS)

    async def last() -> Any:
        return [event async for event in desk.events(text="a", tags={"user": "u1"})][-1]

    assert asyncio.run(last()).trace[0].tags == {"user": "u1"}


def test_an_input_that_is_called_tags_is_an_input(program, scripted) -> None:
    text = "inputs: {tags: 'list[str]'}\noutputs: {n: '${{ len(inputs.tags) }}'}\n"
    assert program(text, scripted(answer))(tags=["a", "b"]).outputs == {"n": 2}


@pytest.mark.parametrize(
    "tags", [["session"], {"session": 7}, {"": "a"}, {"a": "b" * 600}, {"a": "\ud83d"}, {"a": "b\n"}]
)
def test_tags_that_cannot_be_sent_are_refused(program, scripted, tags) -> None:
    desk = program(TEXT, scripted(answer), tools__py=TOOLS)
    for given in (lambda: desk(text="a", tags=tags), lambda: desk.with_tags(tags)):
        with pytest.raises(UsageError, match="tag"):
            given()


def test_the_newest_conventions_are_followed_where_the_environment_asks(program, scripted, told, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental")
    desk = program(TEXT, scripted(answer), tools__py=TOOLS)
    memory = told(content=True)
    desk(text="a")
    _, chat, root = memory.get_finished_spans()
    assert (root.name, root.attributes["gen_ai.agent.name"]) == ("invoke_agent desk", "desk")
    assert "finish_reason" not in chat.attributes["gen_ai.output.messages"]
    assert chat.attributes["gen_ai.response.finish_reasons"] == ("stop",)


OLD = {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
NEW = {
    *(f"gen_ai.client.inference.usage.{kind}_tokens" for kind in ("input", "output", "cache_read.input")),
    *(f"gen_ai.client.inference.operation.{kind}_tokens" for kind in ("input", "output")),
    "gen_ai.client.inference.duration",
    "gen_ai.execute_tool.duration",
    "gen_ai.invoke_agent.duration",
}


@pytest.mark.parametrize(("asked", "names"), [("", OLD), ("gen_ai_latest_experimental", NEW)])
def test_tokens_and_seconds_are_measured(program, scripted, monkeypatch, asked, names) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", asked)
    reader = InMemoryMetricReader()
    end = export_to(TracerProvider(), meters=MeterProvider([reader]))
    try:
        program(TEXT, scripted(answer), tools__py=TOOLS)(text="odd")
    finally:
        end()
    end()  # which may be called again
    found = {
        metric.name: list(metric.data.data_points)
        for of_resource in reader.get_metrics_data().resource_metrics
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
    }
    assert found.keys() == names
    model = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "none", "gen_ai.operation.name": "chat"}
    if asked:
        (point,) = found["gen_ai.client.inference.usage.input_tokens"]
        assert (point.value, dict(point.attributes)) == (10, model | {"gen_ai.token.modality": "unknown"})
    else:
        sums = {point.attributes["gen_ai.token.type"]: point.sum for point in found["gen_ai.client.token.usage"]}
        assert sums == {"input": 10, "output": 2}
        (point,) = found["gen_ai.client.operation.duration"]
        assert (point.count, dict(point.attributes)) == (2, model)
        assert point.explicit_bounds[-1] == pytest.approx(81.92)


def test_dry_runs_tell_nothing(program, scripted, told) -> None:
    memory = told()
    program(TEXT, scripted(answer), tools__py=TOOLS).faked()(text="a")
    assert memory.get_finished_spans() == ()


def test_traces_go_to_a_file_beside_the_spec(program, scripted, tmp_path, capfd) -> None:
    desk = program(TEXT + "export: {traces: kept/traces.jsonl}\n", scripted(answer), tools__py=TOOLS)
    desk.map([{"text": "a"}, {"text": "odd"}])
    close()
    found = [(record["kind"], record["example"]) for record in read_trace(tmp_path / "kept" / "traces.jsonl")]
    assert sorted(found) == [("lm", 0), ("lm", 1), ("lm", 1), ("run", 0), ("run", 1), ("tool", 0), ("tool", 1)]
    assert capfd.readouterr().err == ""


def test_a_file_that_cannot_be_written_is_a_warning(program, scripted, write, capfd) -> None:
    write("", "taken")
    desk = program(TEXT + "export: {traces: taken/traces.jsonl}\n", scripted(answer), tools__py=TOOLS)
    assert [result.error for result in desk.map([{"text": "a"}] * 3)] == [None] * 3
    err = capfd.readouterr().err
    assert err.count("lmprog: ") == 1 and "the runs go on without" in err


def test_nothing_heavy_is_imported_for_it() -> None:
    code = (
        "import sys, lmprog.runtime.program; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert ran.stdout == "[]\n"


def test_a_run_that_ends_with_calls_of_its_client_is_no_error(program, scripted, told) -> None:
    memory = told()
    text = TEXT.replace("outputs: {answer: {enum: [yes, no]}}", "outputs: {answer: str}, tools: [look], max_turns: 3")
    call = ToolCall("1", "weather", {}, "{}")
    desk = program(text, scripted(lambda request: Completion("", tool_calls=(call,))), tools__py=TOOLS)
    tools = ClientTools("say", (ToolOffer("weather", "", {}),), lambda messages: messages)
    result = asyncio.run(desk.run({"text": "a"}, options=RunOptions(client=tools)))
    assert (result.outputs, result.error) == (None, None) and result.client_calls is not None
    (root,) = [span for span in memory.get_finished_spans() if span.name == "invoke_agent desk"]
    assert root.status.status_code != StatusCode.ERROR and root.attributes["lmprog.client_calls"] == ("weather",)
