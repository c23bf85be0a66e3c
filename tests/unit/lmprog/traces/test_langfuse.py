"""Langfuse: a stand-in of its OTLP endpoint takes a run, and shows it by Langfuse's own rules.

Its server is no package of an index, so that the real one is not here. Path, keys, media types and statuses are those of its
route `api/public/otel/v1/traces`, and what becomes of a span is as in its ObservationTypeMapper and OtelIngestionProcessor
(read in October 2026).
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the extra 'otel'")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lmprog.traces.exports import close
from tests.functional.test_docs_blocks import ROOT, blocks
from tests.unit.lmprog.traces.test_collector import Receiver
from tests.unit.lmprog.traces.test_telemetry import TEXT, TOOLS, answer

TYPES = {"CHAIN": "CHAIN", "LLM": "GENERATION", "TOOL": "TOOL"}
KEYS = "pk-lf-1", "sk-lf-2"
(EXPORT,) = (block.text for block in blocks(ROOT / "docs/traces.md") if "langfuse" in block.text)


class Langfuse(Receiver):
    """Keeps what Langfuse calls observations, by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.observations: dict[str, dict[str, Any]] = {}

    def status(self, path: str, headers: dict[str, str]) -> int:
        given = {name.lower(): value for name, value in headers.items()}
        scheme, _, keys = given.get("authorization", "").partition(" ")
        if path != "/api/public/otel/v1/traces":
            return 404
        if scheme != "Basic" or tuple(base64.b64decode(keys).decode().split(":")) != KEYS:
            return 401
        protobuf = "application/x-protobuf" in given.get("content-type", "")
        return 200 if protobuf and int(given.get("x-langfuse-ingestion-version", "1")) <= 4 else 400

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        if "gzip" in headers.get("Content-Encoding", ""):
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.observations |= {span.name: observation(span) for span in scope.spans}


def observation(span: Any) -> dict[str, Any]:
    values = {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
    used = {"gen_ai.usage.input_tokens": "input", "gen_ai.usage.output_tokens": "output"}
    return {
        "id": span.span_id,
        "parent": span.parent_span_id,
        "trace": span.trace_id,
        "type": TYPES[values["openinference.span.kind"]],
        "model": values.get("gen_ai.response.model") or values.get("gen_ai.request.model"),
        "usage": {name: values[key] for key, name in used.items() if key in values},
        "user": values.get("user.id"),
        "session": values.get("session.id"),
        "input": values.get("input.value"),
        "output": values.get("output.value"),
    }


@pytest.fixture
def langfuse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Langfuse]:
    server = Langfuse()
    monkeypatch.setenv("LANGFUSE_HOST", server.url)
    monkeypatch.setenv("LANGFUSE_AUTH", base64.b64encode(":".join(KEYS).encode()).decode())
    yield server
    close()
    server.server.shutdown()
    server.server.server_close()


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_langfuse_shows_a_run(program, scripted, langfuse: Langfuse, monkeypatch, compression: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    program(TEXT + EXPORT, scripted(answer), tools__py=TOOLS)(text="a", tags={"session": "s-1", "user": "ada"})
    close()
    root, tool, chat = (langfuse.observations[name] for name in ("invoke_agent desk", "execute_tool look", "chat none"))
    assert len(langfuse.observations) == 3
    assert root["parent"] == b"" and {tool["parent"], chat["parent"]} == {root["id"]}
    assert [each["type"] for each in (root, tool, chat)] == ["CHAIN", "TOOL", "GENERATION"]
    assert {(each["trace"], each["user"], each["session"]) for each in (root, tool, chat)} == {
        (root["trace"], "ada", "s-1")
    }
    assert json.loads(root["input"]) == {"text": "a"} and chat["output"] in root["output"]
    assert json.loads(chat["input"])[-1]["role"] == "user" and chat["model"] == "none"
    assert chat["usage"] == {"input": 5, "output": 1}


def test_wrong_keys_are_told_and_fail_no_run(program, scripted, langfuse: Langfuse, monkeypatch, capfd) -> None:
    monkeypatch.setenv("LANGFUSE_AUTH", base64.b64encode(b"pk-lf-1:sk-lf-wrong").decode())
    assert program(TEXT + EXPORT, scripted(answer), tools__py=TOOLS)(text="a").outputs
    close()
    said = capfd.readouterr().err
    assert "401" in said and langfuse.observations == {} and "sk-lf" not in said
