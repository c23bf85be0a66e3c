"""Collectors: what they get, what the environment says of it, and what a slow or dead one costs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lmprog import UsageError
from lmprog.traces import delivery, exports
from lmprog.traces.exports import close
from lmprog.traces.otel_environment import Wanted, wanted
from tests.unit.lmprog.traces.test_telemetry import TEXT, TOOLS, answer
from tests.waiting import wait_until


class Receiver:
    """A real OTLP/HTTP receiver: what came, and `statuses` with which it answers before it takes anything."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: set[str] = set()
        self.resources: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.statuses: list[int] = []
        self.blocked = threading.Event()
        self.blocked.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.blocked.wait(60)
                receiver.paths.append(self.path)
                status = receiver.status(self.path, dict(self.headers))
                if status == 200:
                    receiver.take(self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def status(self, path: str, headers: dict[str, str]) -> int:
        return self.statuses.pop(0) if self.statuses else 200

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.headers.append(headers)
        if path.endswith("/metrics"):
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics |= {metric.name for scope in resource.scope_metrics for metric in scope.metrics}
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({each.key: each.value.string_value for each in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.spans += scope.spans


@pytest.fixture
def collector() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.blocked.set()
    close()
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture(autouse=True)
def nothing_said_before(monkeypatch) -> None:
    monkeypatch.setattr(exports, "_warned", set())
    monkeypatch.setattr(exports._content, "private", False)


def exporting(address: str, more: str = "") -> str:
    return f'export: {{traces: {{otlp: "{address}"{more}}}}}\n'


def test_a_collector_gets_every_span(program, scripted, collector, monkeypatch) -> None:
    monkeypatch.setenv("COLLECTOR", collector.url)
    monkeypatch.setenv("COLLECTOR_KEY", "k-123456")
    export = exporting("${{ env.COLLECTOR }}", ', headers: {x-key: "${{ env.COLLECTOR_KEY }}"}')
    desk = program(TEXT + export, scripted(answer), tools__py=TOOLS)
    desk.map([{"text": str(row)} for row in range(50)])
    close()
    assert sorted({span.name for span in collector.spans}) == ["chat none", "execute_tool look", "invoke_agent desk"]
    assert len(collector.spans) == 150 and len({span.trace_id for span in collector.spans}) == 50
    assert {headers["x-key"] for headers in collector.headers} == {"k-123456"}
    assert set(collector.paths) == {"/v1/traces"}
    assert {resource["service.name"] for resource in collector.resources} == {"lmprog"}


@pytest.mark.parametrize("path", ["", "/v1/traces", "/otlp/v1/traces"])
def test_metrics_go_beside_the_traces(program, scripted, collector, path) -> None:
    text = TEXT + exporting(collector.url + path, ", metrics: true")
    program(text, scripted(answer), tools__py=TOOLS)(text="a")
    close()
    assert collector.metrics == {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"}
    before = path.removesuffix("/v1/traces")
    assert sorted(collector.paths) == [f"{before}/v1/metrics", f"{before}/v1/traces"]


def test_the_environment_alone_turns_it_on(program, scripted, collector, monkeypatch) -> None:
    for name, value in {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/base",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=k-1,other=a%20b",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        "OTEL_METRICS_EXPORTER": "otlp",
    }.items():
        monkeypatch.setenv(name, value)
    program(TEXT, scripted(answer), tools__py=TOOLS)(text="a-secret")
    close()
    assert sorted(collector.paths) == ["/base/v1/metrics", "/base/v1/traces"]
    assert len(collector.spans) == 3 and "secret" not in str(collector.spans)
    expected = {"service.name": "shop", "deployment.environment": "test"}
    assert expected.items() <= collector.resources[0].items()
    assert all((headers["x-key"], headers["other"]) == ("k-1", "a b") for headers in collector.headers)


def test_a_spec_that_names_a_collector_is_not_sent_twice(program, scripted, collector, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    program(TEXT + exporting(collector.url), scripted(answer), tools__py=TOOLS)(text="a")
    close()
    assert len(collector.spans) == 3 and collector.resources[0]["service.name"] == "shop"


@pytest.mark.parametrize("private", [False, True])
def test_content_by_the_environment_leaves_out_private_values(
    program, scripted, collector, monkeypatch, capfd, private
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "span_only")
    text = TEXT.replace("result: found}", "result: found, trusted: true}")
    if private:
        text = text.replace("inputs: {text: str}\n", "inputs: {text: {type: str, private: true}}\n")
    desk = program(text, scripted(answer), tools__py=TOOLS)
    for _ in range(2):
        desk(text="a-secret")
    close()
    assert len(collector.spans) == 6 and ("a-secret" in str(collector.spans)) is not private
    assert capfd.readouterr().err.count("private values: they are left out") == private


def test_metrics_that_are_not_taken_are_said_once(program, scripted, collector, monkeypatch, capfd) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{collector.url}/v1/metrics")
    collector.statuses = [404]
    program(TEXT, scripted(answer), tools__py=TOOLS)(text="a")
    close()
    said = f"lmprog: the collector at {collector.url} takes no metrics (it answers 404); the runs go on without\n"
    assert (capfd.readouterr().err, collector.paths) == (said, ["/v1/metrics"])


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        (ENDPOINT, Wanted(True, False, False)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a"}, Wanted(True, False, False)),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://a"}, Wanted(False, True, False)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, Wanted(True, False, False)),
        ({"OTEL_TRACES_EXPORTER": "console, OTLP"}, Wanted(True, False, False)),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "console"}, None),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "otlp"}, Wanted(True, True, False)),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, None),
        ({**ENDPOINT, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}, Wanted(True, False, True)),
        ({**ENDPOINT, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "no_content"}, Wanted(True, False, False)),
    ],
)
def test_what_the_environment_turns_on(environ, found) -> None:
    assert wanted(environ) == found


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "must be the address of a collector"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "must be the address of a collector"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "over HTTP alone"),
    ],
)
def test_an_environment_that_cannot_be_followed_is_said_once_and_fails_no_run(
    program, scripted, monkeypatch, capfd, environ, said
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    desk = program(TEXT, scripted(answer), tools__py=TOOLS)
    assert [result.error for result in desk.map([{"text": "a"}] * 2)] == [None, None]
    close()
    err = capfd.readouterr().err
    assert err.count("lmprog: ") == 1 and said in err


def test_a_disabled_sdk_sends_nothing(program, scripted, collector, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    program(TEXT + exporting(collector.url), scripted(answer), tools__py=TOOLS)(text="a")
    close()
    assert collector.paths == []


def test_what_a_collector_did_not_take_is_sent_again(program, scripted, collector, monkeypatch, capfd) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    collector.statuses = [503]
    desk = program(TEXT + exporting(collector.url), scripted(answer), tools__py=TOOLS)
    desk(text="a")
    wait_until(lambda: collector.paths, "the first request")
    desk(text="b")
    close()
    assert len(collector.spans) == 6
    assert len({span.span_id for span in collector.spans}) == 6
    assert "could not be delivered" not in capfd.readouterr().err


def test_what_is_refused_for_good_holds_up_nothing(program, scripted, collector, monkeypatch, capfd) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")
    collector.statuses = [400]
    desk = program(TEXT + exporting(collector.url), scripted(answer), tools__py=TOOLS)
    desk.map([{"text": "a"}] * 4)
    close()
    assert len(collector.spans) == 9
    assert f"3 of 12 spans could not be delivered to the collector at {collector.url} (it answers 400)" in (
        capfd.readouterr().err
    )


@pytest.mark.slow
def test_a_collector_that_hangs_slows_no_run_and_the_end_within_a_bound(
    program, scripted, collector, monkeypatch, capfd
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    collector.blocked.clear()
    desk = program(TEXT + exporting(collector.url), scripted(answer), tools__py=TOOLS)
    results = desk.map([{"text": "a"}] * 400)
    # Not one span has been taken, and every run has ended.
    assert [result.error for result in results] == [None] * 400 and collector.paths == []
    began = time.monotonic()
    close()
    # Without the bound each of the three batches would be tried for as long as the collector hangs.
    assert time.monotonic() - began < delivery.BOUND + 30
    assert "1200 of 1200 spans could not be delivered" in capfd.readouterr().err


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
        assert time.process_time() - started < 20
    """
    script = write(code, "script.py")
    ran = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert (ran.returncode, ran.stdout) == (0, "")
    at = f"the collector at http://127.0.0.1:{closed_port}"
    *before, last = ran.stderr.splitlines()
    assert last == f"lmprog: 6003 of 6003 spans could not be delivered to {at} (ConnectionError)"
    assert before in ([], [f"lmprog: {at} takes no traces (ConnectionError); the runs go on"])


@pytest.mark.parametrize("address", ["127.0.0.1:4318", "ftp://127.0.0.1", "http://[::1", ""])
def test_an_address_that_is_none_is_refused(program, scripted, address) -> None:
    desk = program(TEXT + exporting(address), scripted(answer), tools__py=TOOLS)
    with pytest.raises(UsageError, match="must be the address of a collector"):
        desk(text="a")


def test_metrics_beside_an_address_of_traces_alone_are_refused(program, scripted) -> None:
    desk = program(TEXT + exporting("http://127.0.0.1/in", ", metrics: true"), scripted(answer), tools__py=TOOLS)
    with pytest.raises(UsageError, match="`metrics` needs an address"):
        desk(text="a")


def test_a_variable_that_is_not_set_is_refused(program, scripted, monkeypatch) -> None:
    monkeypatch.delenv("COLLECTOR", raising=False)
    desk = program(TEXT + exporting("${{ env.COLLECTOR }}"), scripted(answer), tools__py=TOOLS)
    with pytest.raises(UsageError, match=r"COLLECTOR.*set the variable"):
        desk(text="a")
