"""A server that gives back what it was sent: no key and no header stands in a trace, a log, a message or a traceback."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

import lmprog
from tests.unit.lmprog.lms.api.server_for_api import DIRECT, KEY, LITELLM, SPEC

TOKEN = 'tok"en/+0123456789 abc'
LEFT_IN_THE_ENVIRONMENT = "env-secret-0123456789"
LMPROG = Path(sys.executable).with_name("lmprog")
HEADERS = """{X-Token: "${{ env.TEST_TOKEN }}", X-Plain: "${{ join(['Bearer', env.TEST_TOKEN], ' ') }}"}"""


@pytest.fixture(params=[DIRECT, LITELLM, "hosted_vllm/x"])
def telling(request, remote, server, monkeypatch):
    """The program, whose server says in its errors all that it was sent."""
    monkeypatch.setenv("TEST_TOKEN", TOKEN)
    monkeypatch.setenv("SOME_API_KEY", LEFT_IN_THE_ENVIRONMENT)

    def make(status: int) -> lmprog.Program:
        def answer(asked):
            said = f"{dict(asked.headers)} {quote(TOKEN)} {LEFT_IN_THE_ENVIRONMENT}"
            if status == 200:
                return web.Response(text=f"not JSON: {said}", content_type="text/plain")
            headers = {"x-echo": asked.headers["Authorization"], "retry-after": "0.01"}
            return web.json_response({"error": {"message": said, "code": None}}, status=status, headers=headers)

        server.answer = answer
        return remote(request.param, **{"limits: {timeout: 20}": f"limits: {{tries: 2}}\n        headers: {HEADERS}"})

    return make


def nowhere(text: str) -> None:
    for secret in (
        KEY,
        TOKEN,
        json.dumps(TOKEN)[1:-1],
        repr(TOKEN)[1:-1],
        quote(TOKEN, safe=""),
        LEFT_IN_THE_ENVIRONMENT,
    ):
        assert secret not in text
    assert "0123456789" not in text


def everything(error: BaseException | None) -> str:
    """All that a traceback can print of an exception: its chain, and the locals of each frame."""
    shown = []
    while error is not None:
        made = traceback.TracebackException.from_exception(error, capture_locals=True)
        shown += [*made.format(), repr(error), str(error)]
        error = error.__cause__ or error.__context__
    return "".join(shown)


@pytest.mark.parametrize("status", [200, 401, 429, 500])
def test_in_no_message_and_no_traceback(telling, server, caplog, capfd, status) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    program = telling(status)
    with pytest.raises(lmprog.RunError) as caught:
        program(text="hi")
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert server.asked[0].headers["X-Token"] == TOKEN
    (made,) = caught.value.result.trace
    assert "[key]" in made.error
    nowhere(everything(caught.value.with_traceback(None)))
    nowhere(json.dumps(made.as_json()) + repr(made) + repr(program))
    nowhere(caplog.text)
    nowhere("".join(capfd.readouterr()))


def test_the_frames_of_the_failure_show_none(telling) -> None:
    program = telling(401)
    lm = program.lms["remote"]
    with pytest.raises(lmprog.ProviderError) as caught:
        from lmprog.aio.loops import run_async

        run_async(lambda: lm.complete(lmprog.Request([{"role": "user", "content": "hi"}])))
    assert caught.value.__context__ is None and caught.value.__cause__ is None
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    nowhere("".join(line for line in shown.format() if "test_secrets" not in line))


@pytest.mark.slow
@pytest.mark.parametrize("model", [DIRECT, LITELLM])
def test_the_command_line_writes_none(write, server, tmp_path, model) -> None:
    def answer(asked):
        return web.json_response({"error": {"message": f"wrong: {dict(asked.headers)}"}}, status=401)

    server.answer = answer
    spec = write(SPEC.replace("MODEL", model).replace("limits: {timeout: 20}", f"headers: {HEADERS}"))
    rows = write('{"text": "a"}\n{"text": "b"}\n', "rows.jsonl")
    environment = {**os.environ, "TEST_API_BASE": server.url, "TEST_KEY": KEY, "TEST_TOKEN": TOKEN}
    command = [
        LMPROG,
        "run",
        spec,
        "--inputs",
        rows,
        "--out",
        tmp_path / "out.jsonl",
        "--trace",
        tmp_path / "trace.jsonl",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert len(server.asked) == 2
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("[key]" in text for text in written)
    nowhere("".join(written) + done.stdout + done.stderr)
    assert "Traceback" not in done.stderr
    assert "unhandled exception" not in done.stderr


def test_a_password_in_the_address(remote, server, monkeypatch) -> None:
    program_base = server.url.replace("http://", "http://me:pa55-0123456789@")
    server.answer = lambda asked: web.json_response(
        {"error": {"message": f"{dict(asked.headers)} pa55-0123456789"}}, status=403
    )
    monkeypatch.setenv("TEST_API_BASE", program_base)
    program = remote(**{'api_key: "${{ env.TEST_KEY }}"': "context: 100"})
    monkeypatch.setenv("TEST_API_BASE", program_base)
    with pytest.raises(lmprog.RunError) as caught:
        program(text="hi")
    assert "pa55" not in everything(caught.value.with_traceback(None))
