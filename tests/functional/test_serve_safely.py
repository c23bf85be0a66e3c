"""`lmprog serve` left running: pages, other names, strange bodies, slow clients and strange outputs hold and read nothing."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis.errors import Unsatisfiable

from tests.functional.test_serve import Served, error_of, serve, waiting  # noqa: F401
from tests.waiting import PATIENCE

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
        return httpx.post(f"{served.url}/run", content=body, headers=given, timeout=PATIENCE)

    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "text/json;application/json",
    ):
        assert error_of(post(content_type=kind)) == (415, "media_type", None)
    assert error_of(httpx.post(f"{served.url}/run", content=body, timeout=PATIENCE)) == (415, "media_type", None)
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
