"""MLflow and Phoenix: real servers show a run as it was, with kind, inputs, outputs, calls, session and user.

Both are heavy, and MLflow's pins disagree with those of the tests, so that they live in an environment of their own, which
LMPROG_VIEWERS names (`python3 -m venv DIR && DIR/bin/pip install mlflow arize-phoenix`). Where it is not set they are looked
for on the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the extra 'otel'")

import lmprog
from lmprog.traces.exports import close
from tests.ports import reserved

pytestmark = pytest.mark.slow

PROGRAM = """
    name: desk
    inputs: {text: str}
    outputs: {answer: "${{ steps.say.answer }}"}
    tools: {look: {python: "./tools.py:look", result: found}}
    modules:
      say: {lm: real, inputs: {text: str, found: str}, outputs: {answer: {enum: ["yes", "no"]}}}
    steps:
      look: {tool: look, with: {text: "${{ inputs.text }}"}}
      say: {module: say, with: {text: "${{ inputs.text }}", found: "${{ steps.look.found }}"}}
    """
TOOLS = "def look(text):\n    return 'found ' + text\n"
TAGS = {"session": "s-1", "user": "ada", "app": "shop"}
START = 240.0
"""Seconds in which a server must answer, on a machine that does much else."""


def binary(name: str) -> str:
    """Return the path of a viewer's command, or skip."""
    folder = os.environ.get("LMPROG_VIEWERS")
    found = shutil.which(name, path=str(Path(folder) / "bin") if folder else None)
    if found is None:
        pytest.skip(
            f"{name} is not installed; LMPROG_VIEWERS names an environment that has it, as this file says at its top"
        )
    return found


def asked(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        text = response.read()
    return json.loads(text) if text.startswith((b"{", b"[")) else text


def soon(look: Callable[[], Any], what: str) -> Any:
    """Return what `look` gives, once it gives something."""
    until, last = time.monotonic() + START, None
    while time.monotonic() < until:
        try:
            if found := look():
                return found
        except OSError as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"{what} after {START} seconds: {last}")


@contextmanager
def server(command: list[str], folder: Path, health: str, **environment: str) -> Iterator[None]:
    with (folder / "server.log").open("wb") as log:
        began = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **environment}, start_new_session=True
        )
        try:
            soon(lambda: began.poll() is not None or asked(health), "no answer")
            assert began.poll() is None, (folder / "server.log").read_text()
            yield
        finally:
            # A group of its own: the workers of the server end with it.
            os.killpg(began.pid, 15)
            try:
                began.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(began.pid, 9)


@pytest.fixture
def run(write, provider, monkeypatch) -> Callable[..., None]:
    """Makes one run, sent to a collector."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    provider.otherwise = provider.counted("yes", 20, 4)

    def make(otlp: str, headers: str = "{}") -> None:
        text = f"lms: {{real: {{model: openai/gpt-x, api_base: '{provider.url}', api_key: sk-none}}}}\n"
        text += f'export: {{traces: {{otlp: "{otlp}", headers: {headers}, content: true}}}}\n'
        write(TOOLS, "tools.py")
        path = write("lmprog: 1\n" + text + textwrap.dedent(PROGRAM))
        assert lmprog.load(path)(text="a", tags=TAGS).outputs == {"answer": "yes"}
        close()

    return make


def value_of(any_value: dict[str, Any]) -> Any:
    """Return a value of OTLP's JSON as plain values."""
    ((kind, found),) = any_value.items()
    if kind == "array_value":
        return [value_of(each) for each in found.get("values", ())]
    if kind == "kvlist_value":
        return {each["key"]: value_of(each["value"]) for each in found.get("values", ())}
    return found


@pytest.fixture
def port() -> Iterator[int]:
    with reserved() as port:
        yield port


def test_mlflow_shows_a_run(run, tmp_path, port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    command = [binary("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        f"{tmp_path}/files",
    ]
    with server(command, tmp_path, f"{url}/health", MLFLOW_DISABLE_TELEMETRY="true"):
        run(f"{url}/v1/traces", '{x-mlflow-experiment-id: "0"}')
        where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
        search = f"{url}/api/3.0/mlflow/traces/search"
        (info,) = soon(lambda: asked(search, {"locations": [where]}).get("traces"), "no trace")
        assert info["state"] == "OK" and json.loads(info["request_preview"]) == {"text": "a"}
        assert info["trace_metadata"]["mlflow.trace.session"] == "s-1"
        assert info["trace_metadata"]["mlflow.trace.user"] == "ada"
        assert json.loads(info["trace_metadata"]["mlflow.trace.tokenUsage"])["total_tokens"] == 24
        trace = asked(f"{url}/api/3.0/mlflow/traces/get?trace_id={info['trace_id']}")["trace"]
    spans = {span["name"]: span for span in trace["spans"]}
    assert spans.keys() == {"invoke_agent desk", "execute_tool look", "chat gpt-x"}
    root, tool, chat = (spans[name] for name in ("invoke_agent desk", "execute_tool look", "chat gpt-x"))
    assert "parent_span_id" not in root and {tool["parent_span_id"], chat["parent_span_id"]} == {root["span_id"]}
    shown = [{each["key"]: value_of(each["value"]) for each in span["attributes"]} for span in (root, tool, chat)]
    assert [span["mlflow.spanType"] for span in shown] == ["CHAIN", "TOOL", "LLM"]
    assert [span["mlflow.spanInputs"] for span in shown[:2]] == [{"text": "a"}, {"text": "a"}]
    assert [span["mlflow.spanOutputs"] for span in shown] == [{"answer": "yes"}, "found a", "yes"]
    assert shown[2]["mlflow.spanInputs"][-1] == {"role": "user", "content": "<text>a</text>\n<found>found a</found>"}


def test_phoenix_shows_a_run(run, tmp_path, port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PHOENIX_WORKING_DIR": str(tmp_path / "phoenix"),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": "0",
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    with server([binary("phoenix"), "serve"], tmp_path, f"{url}/healthz", **environment):
        run(f"{url}/v1/traces")
        found = soon(lambda: asked(f"{url}/v1/projects/default/spans")["data"], "no span")
        sessions = asked(f"{url}/v1/projects/default/sessions")["data"]
    assert [session["session_id"] for session in sessions] == ["s-1"]
    spans = {span["name"]: span for span in found}
    assert spans.keys() == {"invoke_agent desk", "execute_tool look", "chat gpt-x"}
    root, tool, chat = (spans[name] for name in ("invoke_agent desk", "execute_tool look", "chat gpt-x"))
    assert root["parent_id"] is None and {tool["parent_id"], chat["parent_id"]} == {root["context"]["span_id"]}
    assert [span["span_kind"] for span in (root, tool, chat)] == ["CHAIN", "TOOL", "LLM"]
    assert json.loads(root["attributes"]["input.value"]) == {"text": "a"}
    assert json.loads(root["attributes"]["output.value"]) == {"answer": "yes"}
    assert tool["attributes"]["output.value"] == chat["attributes"]["output.value"].replace("yes", "found a")
    said = json.loads(chat["attributes"]["input.value"])
    assert said[-1] == {"role": "user", "content": "<text>a</text>\n<found>found a</found>"}
    assert root["attributes"]["user.id"] == "ada"
