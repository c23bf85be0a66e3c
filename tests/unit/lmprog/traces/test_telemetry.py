"""OpenTelemetry: runs as spans after the GenAI conventions, to the SDK and to a collector that reads the protocol."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from lmprog import Completion, ProviderError, Usage, UsageError
from lmprog.traces.exports import close, export_to
from lmprog.traces.files import read_trace

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
        "execute_tool look", "chat none", "chat none", "invoke_workflow desk",
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
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "desk",
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
    desk = program(TEXT, scripted(answer, delay=5.0), tools__py=TOOLS)
    memory = told()

    async def cut() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(desk.run({"text": "a"}), 0.05)

    asyncio.run(cut())
    _, chat, root = memory.get_finished_spans()
    assert [span.attributes["error.type"] for span in (chat, root)] == ["cancelled", "cancelled"]


def test_dry_runs_tell_nothing(program, scripted, told) -> None:
    memory = told()
    program(TEXT, scripted(answer), tools__py=TOOLS).faked()(text="a")
    assert memory.get_finished_spans() == ()


@pytest.fixture
def collector() -> Iterator[Any]:
    """A real OTLP/HTTP receiver: `spans`, `headers` and `paths` of what came."""

    class Receiver(BaseHTTPRequestHandler):
        spans: ClassVar[list[Any]] = []
        headers_seen: ClassVar[list[Any]] = []
        paths: ClassVar[list[str]] = []
        url = ""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    Receiver.spans += scope.spans
            Receiver.headers_seen.append(dict(self.headers))
            Receiver.paths.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    Receiver.url = f"http://127.0.0.1:{server.server_port}"
    yield Receiver
    server.shutdown()
    server.server_close()


def test_a_collector_gets_every_span(program, scripted, collector, monkeypatch) -> None:
    monkeypatch.setenv("COLLECTOR", collector.url)
    monkeypatch.setenv("COLLECTOR_KEY", "k-123456")
    export = 'export: {traces: {otlp: "${{ env.COLLECTOR }}", headers: {x-key: "${{ env.COLLECTOR_KEY }}"}}}\n'
    desk = program(TEXT + export, scripted(answer), tools__py=TOOLS)
    desk.map([{"text": str(row)} for row in range(50)])
    close()
    assert sorted({span.name for span in collector.spans}) == ["chat none", "execute_tool look", "invoke_workflow desk"]
    assert len(collector.spans) == 150 and len({span.trace_id for span in collector.spans}) == 50
    assert {headers["x-key"] for headers in collector.headers_seen} == {"k-123456"}
    assert set(collector.paths) == {"/v1/traces"}


@pytest.mark.slow
def test_a_collector_that_is_down_fails_and_slows_nothing(program, write, scripted, closed_port, tmp_path) -> None:
    program(TEXT, scripted(answer), tools__py=TOOLS)
    code = f"""
        import time, lmprog
        class Yes:
            async def complete(self, request):
                return lmprog.Completion("yes")
        program = lmprog.load("program.yaml", lms={{"lm": Yes()}},
            overrides={{"export": {{"traces": {{"otlp": "http://127.0.0.1:{closed_port}"}}}}}})
        program(text="a")
        started = time.process_time()
        assert [result.error for result in program.map([{{"text": "a"}}] * 2000)] == [None] * 2000
        assert time.process_time() - started < 5
    """
    script = write(code, "script.py")
    ran = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert (ran.returncode, ran.stdout) == (0, "")
    assert (
        ran.stderr
        == f"lmprog: the collector at http://127.0.0.1:{closed_port} takes no traces; the runs go on without\n"
    )


@pytest.mark.parametrize("address", ["127.0.0.1:4318", "ftp://127.0.0.1", ""])
def test_an_address_that_is_none_is_refused(program, scripted, address) -> None:
    desk = program(TEXT + f'export: {{traces: {{otlp: "{address}"}}}}\n', scripted(answer), tools__py=TOOLS)
    with pytest.raises(UsageError, match="must be the address of a collector"):
        desk(text="a")


def test_a_variable_that_is_not_set_is_refused(program, scripted, monkeypatch) -> None:
    monkeypatch.delenv("COLLECTOR", raising=False)
    desk = program(TEXT + 'export: {traces: {otlp: "${{ env.COLLECTOR }}"}}\n', scripted(answer), tools__py=TOOLS)
    with pytest.raises(UsageError, match=r"COLLECTOR.*set the variable"):
        desk(text="a")


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
