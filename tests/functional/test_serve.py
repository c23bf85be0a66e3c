"""`lmprog serve`, as the real command: answers, streams, refusals, clients that leave, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from tests.functional.traced import calls
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

LMPROG = Path(sys.executable).with_name("lmprog")
WAITING = """
    lmprog: 1
    name: patient
    description: Waits as long as it is told.
    inputs: {seconds: {type: float, about: how long}, mood: {type: {enum: [calm, cross]}, default: calm}, note: str?}
    outputs: {slept: "${{ steps.sleep.slept }}", mood: "${{ inputs.mood }}", note: "${{ inputs.note }}"}
    tools: {sleep: {python: "./slow.py:sleep", result: slept}}
    steps: {sleep: {tool: sleep, with: {seconds: "${{ inputs.seconds }}"}}}
"""
SLOW = """
    import asyncio
    from pathlib import Path

    UNTIL_TOLD = 1000.0

    async def sleep(seconds: float) -> float:
        if seconds < 0:
            raise ValueError("the secret of the house")
        Path("begun").touch()
        try:
            while seconds == UNTIL_TOLD and not Path("go").exists():
                await asyncio.sleep(0.01)
            await asyncio.sleep(seconds % UNTIL_TOLD)
        except asyncio.CancelledError:
            Path("cancelled").touch()
            raise
        return seconds
"""
DESK = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}"}
    lms: {lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: "sk-secret-secret"}}
    modules:
      sort: {lm: lm, inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}, retry: 0}
"""


class Served:
    """A server at work, in a process of its own."""

    def __init__(self, spec: Path, *options: str, **environment: str) -> None:
        command = [str(LMPROG), "serve", str(spec), "--port", "0", *options]
        self.process = subprocess.Popen(
            command, cwd=spec.parent, stderr=subprocess.PIPE, text=True, env=os.environ | environment
        )
        self.log: list[str] = []
        assert self.process.stderr is not None
        self.log.append(self.process.stderr.readline())
        found = re.search(r"http://\S+", self.log[0])
        assert found, self.log[0] + self.process.stderr.read()
        self.url = found.group()
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr or ()), daemon=True)
        self._reader.start()
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE, headers={"Content-Type": "application/json"})
        wait_until(lambda: self.client.get("/ready").status_code == 200)

    def run(self, /, **inputs: Any) -> httpx.Response:
        return self.client.post("/run", content=json.dumps(inputs))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """The exit status, and all that stood on standard error."""
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self._reader.join()
        return status, "".join(self.log)


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    begun: list[Served] = []

    def start(*arguments: Any, **environment: str) -> Served:
        begun.append(Served(*arguments, **environment))
        return begun[-1]

    yield start
    for served in begun:
        served.client.close()
        served.process.kill()
        served.process.wait()


@pytest.fixture
def waiting(write) -> Path:
    write(SLOW, "slow.py")
    return write(WAITING)


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert set(error) == {"kind", "message", "path"}
    return response.status_code, error["kind"], error["path"]


def events_of(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_answers_and_refusals(serve, waiting: Path, tmp_path: Path) -> None:
    served = serve(waiting, "--max-body", "1000", "--trace", "trace.jsonl", "--allow-origin", "https://shop.example")
    answer = served.run(seconds=0, note="é\ud800")
    assert answer.status_code == 200
    body = answer.json()
    assert body["outputs"] == {"slept": 0, "mood": "calm", "note": "é\ud800"}
    assert body["usage"] == {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "usd": 0}
    assert body["seconds"] >= 0
    (record,) = calls(tmp_path / "trace.jsonl")
    assert (record["tool"], record["example"]) == ("sleep", body["id"])

    missing = served.run(mood="calm")
    assert error_of(missing) == (422, "input", "inputs")
    assert missing.json()["error"]["message"] == "the input 'seconds' (float) is missing"
    assert error_of(served.run(seconds=0, mood="\ud800"))[0] == 422
    for written in (b"", b"[]", b"{", b"\xff", b"[" * 900):
        assert error_of(served.client.post("/run", content=written)) == (400, "body", None)
    assert error_of(served.run(seconds=0, note="x" * 1000)) == (413, "too_large", None)
    chunks = (b"x" * 100 for _ in range(100))
    assert error_of(served.client.post("/run", content=chunks)) == (413, "too_large", None)
    failed = served.run(seconds=-1)
    assert error_of(failed) == (502, "tool", "sleep")
    assert "secret" not in failed.text

    assert error_of(served.client.get("/run"))[:2] == (405, "request")
    assert error_of(served.client.get("/secrets%0a"))[:2] == (404, "request")
    assert served.client.get("/health").json() == {"status": "ok"}
    assert served.client.get("/ready").json() == {"ready": True}
    assert served.client.get("/").json()["program"] == "patient"
    origin = {"Origin": "https://shop.example"}
    assert served.client.get("/", headers=origin).headers["access-control-allow-origin"] == "https://shop.example"
    other = served.client.get("/", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers

    described = served.client.get("/openapi.json").json()
    validate(described)
    inputs = described["components"]["schemas"]["Inputs"]
    assert inputs["required"] == ["seconds"]
    assert inputs["properties"]["seconds"] == {"type": "number", "description": "how long"}
    assert inputs["properties"]["mood"] == {"type": "string", "enum": ["calm", "cross"], "default": "calm"}
    assert inputs["properties"]["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    responses = described["paths"]["/run"]["post"]["responses"]
    assert set(responses) >= {"200", "400", "413", "422", "429", "500", "502", "503", "504"}

    status, log = served.stop()
    assert status == 0
    assert re.search(r"^POST /run 200 \d+ ms$", log, re.M) and re.search(r"^GET /secrets%0a 404 \d+ ms$", log, re.M)
    assert "secret of the house" not in log and "Traceback" not in log and "é" not in log


def test_who_waits_and_who_leaves(serve, waiting: Path, tmp_path: Path) -> None:
    served = serve(waiting, "--concurrency", "1", "--queue", "1", "--timeout", "600", "--trace", "trace.jsonl")
    begun, cancelled = tmp_path / "begun", tmp_path / "cancelled"
    with ThreadPoolExecutor() as pool:
        first = pool.submit(served.run, seconds=1000)
        wait_until(begun.exists)
        # One of the two waits for the first, and there is no place for the other.
        others = [pool.submit(served.run, seconds=0) for _ in range(2)]
        refused = next(as_completed(others, PATIENCE)).result()
        assert error_of(refused) == (429, "busy", None)
        assert int(refused.headers["retry-after"]) >= 1
        (tmp_path / "go").touch()
        assert first.result().status_code == 200
        assert sorted(other.result().status_code for other in others) == [200, 429]
    assert not cancelled.exists()

    for path in (b"/run", b"/run?stream=1"):
        begun.unlink()
        with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), timeout=PATIENCE) as client:
            head = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
            client.sendall(b"POST " + path + b" HTTP/1.1\r\n" + head + b'{"seconds": 60}')
            wait_until(begun.exists)
        wait_until(cancelled.exists)
        cancelled.unlink()
    assert served.run(seconds=0).status_code == 200  # the place of those who left is free
    cut = calls(tmp_path / "trace.jsonl")
    assert [record.get("error", "")[:9] for record in cut] == ["", "", "cancelled", "cancelled", ""]
    assert len(re.findall(" 499 ", served.stop()[1])) == 2


def test_who_is_late(serve, waiting: Path, tmp_path: Path) -> None:
    served = serve(waiting, "--timeout", "1.5", "--trace", "trace.jsonl")
    assert error_of(served.run(seconds=60)) == (504, "timeout", None)
    assert (tmp_path / "cancelled").exists()
    (cut,) = calls(tmp_path / "trace.jsonl")
    assert cut["error"].startswith("cancelled")


def test_a_stream_tells_its_error(serve, waiting: Path) -> None:
    served = serve(waiting, "--timeout", "2")
    stream = {"Accept": "text/event-stream"}
    failed = served.client.post("/run", json={"seconds": -1}, headers=stream)
    assert failed.status_code == 200 and failed.headers["content-type"].startswith("text/event-stream")
    (_, record), (last, error) = events_of(failed.text)
    assert (record["tool"], record["path"], record["failed"]) == ("sleep", "sleep", True)
    assert last == "error" and error["error"]["kind"] == "tool" and "secret" not in failed.text
    late = served.client.post("/run", json={"seconds": 9}, headers=stream)
    assert events_of(late.text)[-1][1]["error"]["kind"] == "timeout"
    assert error_of(served.client.post("/run", json={}, headers=stream))[0] == 422


@pytest.mark.parametrize(
    ("number", "grace", "answered", "status"),
    [(signal.SIGTERM, "10", True, 0), (signal.SIGINT, "10", True, 130), (signal.SIGTERM, "0.2", False, 0)],
)
def test_a_stopped_server_lets_answers_finish(
    serve, waiting: Path, tmp_path: Path, number: signal.Signals, grace: str, answered: bool, status: int
) -> None:
    served = serve(waiting, "--grace", grace, "--trace", "trace.jsonl")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(served.run, seconds=1.2 if answered else 60)
        wait_until((tmp_path / "begun").exists)
        assert served.stop(number)[0] == status
        if answered:
            assert running.result().json()["outputs"]["slept"] == 1.2
        else:
            assert running.exception() is not None or running.result().status_code >= 500
    assert (tmp_path / "cancelled").exists() != answered
    assert len(calls(tmp_path / "trace.jsonl")) == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.url)


def test_a_key_is_asked_for(serve, waiting: Path) -> None:
    served = serve(waiting, "--api-key-env", "DESK_KEY", DESK_KEY="open sésame")
    key = "Bearer open sésame".encode()
    assert served.client.get("/health").status_code == served.client.get("/ready").status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": key + b"x"}):
        refused = served.client.post("/run", json={"seconds": 0}, headers=headers)
        assert error_of(refused) == (401, "unauthorized", None)
    assert served.client.post("/run", json={"seconds": 0}, headers={"Authorization": key}).status_code == 200
    described = served.client.get("/openapi.json", headers={"Authorization": key}).json()
    validate(described)
    assert described["paths"]["/run"]["post"]["security"] == [{"key": []}]


def test_an_lm_behind_a_provider(serve, write, provider) -> None:
    served = serve(write(DESK), TEST_API_BASE=provider.url)
    provider.otherwise = "billing"
    answer = served.run(text="hello").json()
    assert answer["outputs"] == {"label": "billing"}
    assert (answer["usage"]["calls"], answer["usage"]["prompt_tokens"], answer["usage"]["usd"]) == (1, 11, None)
    provider.otherwise = "no such thing"
    assert error_of(served.run(text="hello")) == (502, "unreadable", "sort")
    provider.otherwise = (401, {}, '{"error": {"message": "wrong key sk-secret-secret for internal host"}}')
    failed = served.run(text="a private question")
    assert error_of(failed) == (503, "provider", "sort")
    assert int(failed.headers["retry-after"]) >= 1
    _, log = served.stop()
    assert "internal host" not in failed.text and "internal host" in log
    assert "sk-secret-secret" not in log and "private question" not in log


def test_the_export_of_a_spec_has_the_runs_of_a_server(serve, write, provider, tmp_path: Path) -> None:
    served = serve(write(DESK + "    export: {traces: runs.jsonl}\n"), TEST_API_BASE=provider.url)
    provider.otherwise = "billing"
    assert served.run(text="hello").status_code == 200
    (record,) = calls(tmp_path / "runs.jsonl")
    assert record["module"] == "sort" and record["outputs"] == {"label": "billing"}


def test_wrong_use(cli, waiting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = cli("serve", waiting, "--port", port)
    assert status == 3 and f"127.0.0.1:{port} cannot be listened on" in err and len(err.splitlines()) == 1
    status, _, err = cli("serve", waiting, "--api-key-env", "NO_SUCH_KEY")
    assert status == 2 and "NO_SUCH_KEY is not set" in err
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    status, _, err = cli("serve", waiting)
    assert status == 2 and "pip install 'lmprog[serve]'" in err


def test_an_lm_that_cannot_be_had_ends_the_server(cli, write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_API_BASE", raising=False)
    status, _, err = cli("serve", write(DESK), "--port", 0)
    assert status == 2 and "TEST_API_BASE" in err


def test_the_embedded_model(serve, write) -> None:
    served = serve(
        write("""
            lmprog: 1
            name: greeter
            lms: {lm: {model: embedded/smollm2-135m, params: {max_tokens: 4}, trusted: true}}
            modules:
              greet: {inputs: {name: str}, outputs: {greeting: str}, instructions: Greet.}
        """)
    )
    with ThreadPoolExecutor() as pool:
        answers = [answer.json() for answer in pool.map(lambda name: served.run(name=name), ["Ada", "Ada", "Bo"])]
    assert answers[0]["outputs"] == answers[1]["outputs"]
    assert all(0 < answer["usage"]["completion_tokens"] <= 4 for answer in answers)
    assert served.client.get("/ready").json() == {"ready": True}
    assert served.stop(signal.SIGINT)[0] == 130


def test_run_shows_what_is_told(cli, program, scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    class Telling(scripted):
        async def complete(self, request):
            for piece in ("bil", None, "bill", "ing"):
                request.on_text(piece)
            return await super().complete(request)

    made = program(
        """
        modules:
          sort: {inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}}
        """,
        Telling(lambda request: "billing"),
    )
    monkeypatch.setattr("lmprog.runtime.program.load", lambda *args, **options: made)
    status, out, err = cli("run", made.plan.path, "--input", "text=x", "--stream")
    assert status == 0 and json.loads(out) == {"label": "billing"}
    assert err == "\n[sort] bil\n[sort] billing\n"
