"""`lmprog serve` left running: pages, other names, strange bodies, slow clients and strange outputs hold and read nothing."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import resource
import socket
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis.errors import Unsatisfiable
from test_serve import LMPROG, Served, error_of, serve, waiting  # noqa: F401

pytestmark = pytest.mark.slow

ECHO = """
    lmprog: 1
    name: echo
    inputs: {text: {type: str, default: x}, blob: json?, times: {type: int, default: 1}, names: "list[str]?"}
    outputs: {blob: "${{ inputs.blob }}", grown: "${{ steps.grow.value }}", deep: "${{ steps.deep.found }}"}
    tools: {deep: {python: "./tools.py:deep", result: found}}
    steps:
      grow: {value: "${{ 1e300 * inputs.times }}"}
      deep: {tool: deep, with: {text: "${{ inputs.text }}"}}
"""
TOOLS = """
    import math

    def deep(text: str) -> dict:
        found = {"text": text}
        if text == "deep":
            for _ in range(3000):
                found = {"in": found}
        return {"nan": math.nan} if text == "nan" else {"big": 10**5000} if text == "big" else found
"""


@pytest.fixture
def echo(write) -> Path:
    write(TOOLS, "tools.py")
    return write(ECHO)


def test_only_json_from_no_page_or_an_allowed_one_to_this_host(serve, echo: Path) -> None:  # noqa: F811
    served = serve(echo, "--allow-origin", "https://shop.example", "--allow-host", "desk.example")
    port = served.url.rpartition(":")[2]
    body = '{"text": "hi"}'

    def post(**headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(f"{served.url}/run", content=body, headers=given)

    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "text/json;application/json",
    ):
        assert error_of(post(content_type=kind)) == (415, "media_type", None)
    assert error_of(httpx.post(f"{served.url}/run", content=body)) == (415, "media_type", None)
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/ld+json"):
        assert post(content_type=kind).status_code == 200
    for origin in ("http://evil.example", "null", f"http://localhost.evil.example:{port}", "https://shop.example.evil"):
        assert error_of(post(content_type="application/json", origin=origin)) == (403, "origin", None)
    for origin in ("https://shop.example", f"http://127.0.0.1:{port}"):
        assert post(content_type="application/json", origin=origin).status_code == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "localhost:1:2"):
        assert error_of(post(content_type="application/json", host=host)) == (403, "host", None)
    for host in ("localhost", f"LOCALHOST:{port}", f"[::1]:{port}", "desk.example:443"):
        assert post(content_type="application/json", host=host).status_code == 200
    assert error_of(post(content_type="text/plain", host="evil.example", origin="http://evil.example"))[0] == 403


def test_a_public_address_wants_a_key(cli, echo: Path, closed_port: int, monkeypatch) -> None:
    for host in ("0.0.0.0", "::", ""):
        status, _, err = cli("serve", echo, "--host", host, "--port", closed_port)
        assert status == 2 and "--api-key-env NAME, listen on 127.0.0.1, or say --insecure" in err


def test_with_a_key_or_at_ones_own_risk_it_listens_anywhere(serve, echo: Path) -> None:  # noqa: F811
    for more, environment in (("--insecure",), {}), (("--api-key-env", "KEY"), {"KEY": "k"}):
        served = serve(echo, "--host", "0.0.0.0", *more, **environment)
        headers = {"Host": "any.example", "Authorization": "Bearer k"}
        assert served.client.post("/run", content="{}", headers=headers).status_code == 200


def test_deep_and_endless_numbers_are_errors_in_json(serve, echo: Path) -> None:  # noqa: F811
    served = serve(echo)
    fits = json.loads("[" * 90 + "]" * 90)
    assert served.run(blob=fits).json()["outputs"]["blob"] == fits
    for body in ('{"blob":' + "[" * 900 + "]" * 900 + "}", '{"blob":' + '{"a":' * 101 + "1" + "}" * 101 + "}"):
        refused = served.client.post("/run", content=body)
        assert error_of(refused) == (400, "body", None) and "nested deeper than 100" in refused.text
    for body in (
        '{"blob":{"a":Infinity}}',
        '{"blob":[NaN]}',
        '{"blob":-Infinity}',
        '{"times":' + "9" * 5000 + "}",
        '{"a"',
    ):
        assert error_of(served.client.post("/run", content=body)) == (400, "body", None)
    for inputs in ({"text": "deep"}, {"text": "nan"}, {"text": "big"}, {"times": 10**9}):
        for path in ("/run", "/run?stream=1"):
            answer = served.client.post(path, content=json.dumps(inputs))
            found = answer.json() if path == "/run" else json.loads(answer.text.rpartition("data: ")[2])
            # What is nested too deep is the tool's own failure; a number that JSON lacks is found in the answer.
            assert found["error"]["kind"] == ("tool" if inputs.get("text") == "deep" else "program"), answer.text
    assert served.run().status_code == 200


PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
LOOK = """
    lmprog: 1
    name: look
    inputs: {picture: image?, others: "list[image]?", turns: messages?, any: json?}
    outputs: {label: "${{ steps.see.label }}"}
    lms: {lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed}}
    modules:
      see: {lm: lm, inputs: {picture: image?, others: "list[image]?", turns: messages?}, outputs: {label: str}, retry: 0}
    steps:
      see: {module: see, with: {picture: "${{ inputs.picture }}", others: "${{ inputs.others }}", turns: "${{ inputs.turns }}"}}
"""


def turn(part: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "text", "text": "/etc/hosts"}, part]}]


def test_a_client_has_no_file_read(serve, write, provider, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    served = serve(write(LOOK), TEST_API_BASE=provider.url)
    for place in (
        str(tmp_path / "secret.png"),
        "secret.png",
        "file:///etc/hosts",
        "http://127.0.0.1:1/x.png",
        "DATA:x",
    ):
        image = {"type": "image_url", "image_url": {"url": place}}
        for inputs in (
            {"picture": place},
            {"others": [PICTURE, place]},
            {"turns": turn(image)},
            {"turns": turn({"type": "image_url", "image_url": place})},
            {"turns": turn({"type": "file", "file": {"file_id": place}})},
        ):
            refused = served.run(**inputs)
            assert error_of(refused) == (422, "input", "inputs") and "as data URIs" in refused.text
    assert provider.requests == []
    for inputs in ({"picture": PICTURE}, {"turns": turn({"type": "image_url", "image_url": {"url": PICTURE}})}):
        assert served.run(**inputs).status_code == 200
    assert "secret" not in json.dumps(provider.requests)


def test_no_path_of_a_client_reaches_a_file_by_another_way(tmp_path: Path) -> None:
    from lmprog.lms.images import READABLE, NoImage, with_images

    own, other = tmp_path / "own.png", tmp_path / "other.png"
    for path in (own, other):
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    token = READABLE.set(frozenset({str(own)}))
    try:
        assert with_images(turn({"type": "image_url", "image_url": {"url": str(own)}}))
        with pytest.raises(NoImage, match="must be a data URI"):
            with_images(turn({"type": "image_url", "image_url": {"url": str(other)}}))
    finally:
        READABLE.reset(token)


# clients that are slow, silent or gone


def connected(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), timeout=20)


def closed_within(client: socket.socket, seconds: float) -> bool:
    """Whether the server ends the connection in time; what it says before is read."""
    client.settimeout(seconds)
    try:
        while client.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


HEAD = b"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_silent_clients_are_cut_off_and_hold_no_place(serve, waiting: Path) -> None:  # noqa: F811
    served = serve(waiting, "--client-timeout", "1", "--concurrency", "2", "--queue", "4")
    half = [b"", b"POST /run HT", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{", b"\x16\x03\x01 no HTTP\r\n\r\n"]
    clients = [connected(served) for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(half[number % len(half)])
    # 200 of them beside it, and both places are free.
    assert served.run(seconds=0).status_code == 200
    with ThreadPoolExecutor(len(clients)) as pool:  # all wait from now on
        assert all(pool.map(lambda client: closed_within(client, 10), clients))
    for client in clients:
        client.close()
    with connected(served) as client:  # a connection that has answered, and then begins a request that never ends
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in client.recv(4096)
        client.sendall(b"GET /hea")
        assert closed_within(client, 8)
    assert served.run(seconds=0).status_code == 200
    assert "Traceback" not in served.stop()[1]


BIG = """
    lmprog: 1
    name: big
    inputs: {n: int}
    outputs: {text: "${{ steps.big.text }}"}
    tools: {big: {python: "./big.py:big", result: text}}
    steps: {big: {tool: big, with: {n: "${{ inputs.n }}"}}}
"""


def test_a_client_that_reads_nothing_is_cut_off(serve, write) -> None:  # noqa: F811
    write("def big(n: int) -> str:\n    return 'x' * n\n", "big.py")
    served = serve(write(BIG), "--client-timeout", "1", "--concurrency", "1")
    clients = []
    for path in (b"/run", b"/run?stream=1"):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(served.url.rpartition(":")[2])))
        body = b'{"n": 30000000}'
        client.sendall(HEAD.replace(b"/run", path) + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        clients.append(client)
    time.sleep(2.5)
    assert len(served.run(n=10).json()["outputs"]["text"]) == 10  # the place of those who read nothing is free
    assert all(closed_within(client, 10) for client in clients)
    assert served.run(n=5).status_code == 200


def test_cut_streams_free_their_places(serve, waiting: Path, tmp_path: Path) -> None:  # noqa: F811
    served = serve(waiting, "--concurrency", "2", "--queue", "50", "--timeout", "60")
    body = b'{"seconds": 50}'
    for _ in range(20):
        client = connected(served)
        client.sendall(HEAD.replace(b"/run", b"/run?stream=1") + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset
    assert served.run(seconds=0).status_code == 200


CROWD = 1_000
WORK = """
    import asyncio

    async def work(n: int, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "x" * n
"""
WORKING = """
    lmprog: 1
    name: work
    inputs: {n: {type: int, default: 1}, seconds: {type: float, default: 0}}
    outputs: {text: "${{ steps.work.text }}"}
    tools: {work: {python: "./work.py:work", result: text}}
    steps: {work: {tool: work, with: {n: "${{ inputs.n }}", seconds: "${{ inputs.seconds }}"}}}
"""


def asking(path: bytes, body: bytes) -> bytes:
    return HEAD.replace(b"/run", path) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_no_place_of_a_thousand_is_held_longer_than_its_limit(serve, write) -> None:  # noqa: F811
    """Silent clients, slow headers and bodies, slow readers and cut streams, all at once, beside one who only asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * CROWD:
        pytest.skip(f"a process may have {hard} files open here, too few for {CROWD} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CROWD), hard))
    write(WORK, "work.py")
    served = serve(write(WORKING), "--client-timeout", "2", "--concurrency", "4", "--queue", "1000", "--timeout", "60")
    port = int(served.url.rpartition(":")[2])
    clients: list[tuple[int, socket.socket]] = []
    dripping: list[socket.socket] = []
    for number in range(CROWD):
        kind = number % 10
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        if kind < 4:  # says nothing, or begins and says no more
            client.sendall((b"", b"POST /run HT", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{")[kind])
        elif kind < 6:  # says a byte now and then, of its headers or of its body
            client.sendall(HEAD if kind == 4 else HEAD + b"Content-Length: 10000\r\n\r\n")
            dripping.append(client)
        elif kind < 8:  # leaves a stream, with a reset
            client.sendall(asking(b"/run?stream=1", b'{"seconds": 50}'))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            continue
        else:  # reads nothing of a long answer
            client.sendall(
                asking(b"/run" if kind == 8 else b"/run?stream=1", b'{"n": 8000000}' if number < 40 else b"{}")
            )
        clients.append((number, client))
    began = time.monotonic()
    while time.monotonic() - began < 6:
        for client in dripping:
            with contextlib.suppress(OSError):
                client.sendall(b"X")
        time.sleep(0.3)
    answer = served.run()
    assert answer.status_code == 200
    left = [number for number, client in clients if not closed_within(client, 0.5)]
    assert not left
    for _, client in clients:
        client.close()
    assert served.run().status_code == 200
    assert "Traceback" not in served.stop()[1]


def test_a_server_with_few_files_refuses_and_goes_on(serve, write) -> None:  # noqa: F811
    write(WORK, "work.py")
    few = 'ulimit -n 96; exec "$0" "$@"'
    process = subprocess.Popen(
        ["bash", "-c", few, str(LMPROG), "serve", str(write(WORKING)), "--port", "0", "--client-timeout", "1"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        found = re.search(r"http://127.0.0.1:(\d+)", process.stderr.readline())
        assert found
        assert "at most 64 connections at a time, by the limit of open files" in process.stderr.readline()
        clients = [socket.create_connection(("127.0.0.1", int(found[1])), timeout=20) for _ in range(150)]
        said = []
        for client in clients:
            with contextlib.suppress(ConnectionError):
                said.append(client.recv(4096))  # all are closed in time, with a refusal or without a word
        refused = [answer for answer in said if answer]
        assert refused and all(answer.startswith(b"HTTP/1.1 503") and b'"busy"' in answer for answer in refused)
        assert httpx.post(f"{found[0]}/run", json={}).json()["outputs"] == {"text": "x"}
    finally:
        process.terminate()
        told = process.communicate()[1]
    assert "Traceback" not in told and told.count("all files that this process may open") <= 1


def test_each_request_has_a_line_in_the_log_without_its_content(serve, echo: Path, tmp_path: Path) -> None:  # noqa: F811
    served = serve(echo, "--request-log", "requests.jsonl", "--trace", "trace.jsonl")
    id = served.run(text="a private word").json()["id"]
    served.client.post("/run?x=1", content="{", headers={"Origin": "http://evil.example"})
    served.client.get("/nowhere")
    lines = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    runs = [line for line in lines if line["path"] != "/ready"]
    assert [(line["method"], line["path"], line["status"]) for line in runs] == [
        ("POST", "/run", 200),
        ("POST", "/run", 403),
        ("GET", "/nowhere", 404),
    ]
    assert runs[0]["id"] == id and runs[0]["bytes_in"] > 20 and runs[0]["bytes_out"] > 20 and runs[1]["id"] is None
    assert "private" not in (tmp_path / "requests.jsonl").read_text()
    second = Served.__new__(Served)
    with pytest.raises(AssertionError, match=f"is being written by process {served.process.pid}"):
        second.__init__(echo, "--request-log", "requests.jsonl")  # type: ignore[misc]


# the described API against the real one


ODD = """
    lmprog: 1
    name: odd
    inputs:
      text: str
      kind: {type: {enum: [a, "b c", ""]}, default: a}
      size: float?
      flag: bool?
      parts: "list[{name: str, count: int}]?"
      any: json?
      turns: messages?
    outputs:
      text: "${{ inputs.text }}"
      size: "${{ inputs.size }}"
      parts: "${{ inputs.parts }}"
      any: "${{ inputs.any }}"
      kind: "${{ inputs.kind }}"
      rest: "${{ steps.rest.value }}"
    steps: {rest: {value: {flag: "${{ inputs.flag }}", turns: "${{ inputs.turns }}"}}}
"""


def test_the_server_does_what_its_openapi_document_says(serve, write) -> None:  # noqa: F811
    """schemathesis makes requests of the document, right ones and wrong ones: no answer is a 5xx or of another form."""
    served = serve(write(ODD), "--seed", "1")
    described = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    found = 0
    for operation in described.get_all_operations():
        for strategy in (
            operation.ok().as_strategy(),
            operation.ok().as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE),
        ):
            with contextlib.suppress(Unsatisfiable):  # no request of a GET without parameters is wrong
                found += conform(strategy)
    assert found > 80
    assert "Traceback" not in served.stop()[1]


def conform(strategy: Any) -> int:
    from hypothesis import given

    asked = 0

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def check(case: Any) -> None:
        nonlocal asked
        asked += 1
        case.call_and_validate()

    check()
    return asked
