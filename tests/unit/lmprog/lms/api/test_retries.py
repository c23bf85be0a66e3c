"""A server that fails in every way loses no row, by either route."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web

from lmprog.boundary.wire import retry_after
from lmprog.lms.api.failures import words_of
from tests.unit.lmprog.lms.api.server_for_api import DIRECT, LITELLM, reply

KINDS = ("429 seconds", "429 date", "429", "500", "503", "hang", "cut", "cut within", "garbage", "type", "no choice")


def failing(kind: str) -> Any:
    error = {"error": {"message": "sorry", "type": "t", "code": None}}
    if kind == "429 seconds":
        return web.json_response(error, status=429, headers={"Retry-After": "0.02"})
    if kind == "429 date":
        return web.json_response(error, status=429, headers={"Retry-After": formatdate(time.time(), usegmt=True)})
    if kind in ("429", "500", "503"):
        return web.json_response(error, status=int(kind))
    if kind == "garbage":
        return web.Response(text='{"choices": [{"mess', content_type="application/json")
    if kind == "type":
        return web.Response(text="<html>Welcome</html>", content_type="text/html")
    if kind == "no choice":
        return {**reply(""), "choices": []}

    async def misbehave(request: web.Request) -> web.StreamResponse:
        if kind == "hang":
            await asyncio.sleep(60)
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "1000"})
        if kind == "cut within":
            await response.prepare(request)
            await response.write(b'{"choices": [')
        request.transport.close()  # type: ignore[union-attr]
        return response

    return misbehave


def ways(text: str) -> list[str]:
    """The failures that a row meets before it is answered: 30% of all tries, by the row alone, whatever the clock does."""
    draw = random.Random(text)
    found: list[str] = []
    while draw.random() < 0.3 and len(found) < 5:
        found.append(draw.choice(KINDS))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", [DIRECT, LITELLM])
def test_a_server_that_fails_three_times_in_ten_loses_no_row(remote, server, model) -> None:
    rows = [{"text": f"row {index}"} for index in range(320)]
    left = {row["text"]: ways(row["text"]) for row in rows}
    met = Counter(kind for kinds in left.values() for kind in kinds)
    assert set(met) == set(KINDS) and sum(met.values()) > 100

    def answer(asked):
        text = asked.body["messages"][-1]["content"]
        return failing(left[text].pop(0)) if left[text] else f"answer to {text}"

    program = remote(model, **{"timeout: 20": "timeout: 3, tries: 9, concurrency: 40"})
    healthy = [{"reply": f"answer to {row['text']}"} for row in rows]
    server.answer = answer
    results = program.map(rows, concurrency=320)
    assert [result.error for result in results if result.error] == []
    assert [result.outputs for result in results] == healthy
    assert len(server.asked) >= len(rows) + sum(met.values())
    # A try that ran out of time may still be at work in the server when the next begins.
    assert server.most_active <= 40 + met["hang"] + 10


@pytest.mark.slow
@pytest.mark.parametrize("model", [DIRECT, LITELLM])
@pytest.mark.parametrize("kind", KINDS)
def test_each_way_to_fail_passes(remote, server, model, kind) -> None:
    kinds = [kind, kind]
    server.answer = lambda asked: failing(kinds.pop()) if kinds else "at last"
    if kind == "hang":
        program = remote(model, **{"timeout: 20": "timeout: 0.5, tries: 9"})
        assert program(text="a").outputs == {"reply": "at last"}
        assert len(server.asked) >= 3  # on a busy machine a try may end before it is answered
        return
    assert remote(model)(text="a").outputs == {"reply": "at last"}
    assert len(server.asked) == 3


@pytest.mark.parametrize("model", [DIRECT, LITELLM])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_said_at_once_in_the_providers_words(remote, server, model, status) -> None:
    server.answer = lambda asked: web.json_response({"error": {"message": "never, says it"}}, status=status)
    (result,) = remote(model).map([{"text": "a"}])
    assert result.error.kind == "provider"
    assert "never, says it" in result.error.message
    assert len(server.asked) == 1


@pytest.mark.slow
@pytest.mark.parametrize("model", [DIRECT, LITELLM])
def test_a_hanging_server_runs_into_the_timeout_of_each_try(remote, server, model) -> None:
    server.answer = lambda asked: failing("hang")
    (result,) = remote(model, **{"timeout: 20": "timeout: 0.3, tries: 3"}).map([{"text": "a"}])
    assert "gave no answer (tried 3 times): " in result.error.message
    assert 1 <= len(server.asked) <= 3  # on a busy machine a try may end before its request is out


@pytest.mark.slow
@pytest.mark.parametrize("model", [DIRECT, LITELLM])
def test_after_a_word_from_the_provider_the_whole_lm_holds_back(remote, server, model) -> None:
    program = remote(model, **{"timeout: 20": "concurrency: 4"})
    program(text="warm")
    first = len(server.asked)

    async def answer(asked):
        if len(server.asked) == first + 1:
            return web.json_response({"error": {"message": "busy"}}, status=429, headers={"retry-after": "1"})
        await asyncio.sleep(0.1)
        return "ok"

    server.answer = answer
    results = program.map([{"text": str(index)} for index in range(12)], concurrency=12)
    assert [result.outputs for result in results] == [{"reply": "ok"}] * 12
    begun = server.asked[first].time
    # The three that were beside it in flight had begun; no other begins before the second is over.
    later = [asked.time - begun for asked in server.asked[first + 1 :]]
    assert len([wait for wait in later if wait < 0.9]) <= 3
    assert len(later) == 12


@pytest.mark.parametrize(
    ("written", "low", "high"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("-3", 0, 0),
        ("nan", 0, 0),
        ("in an hour", 3590, 3600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
def test_retry_after(written, low, high) -> None:
    if written == "in an hour":  # of the test, not of when it was collected
        written = formatdate(time.time() + 3600, usegmt=True)
    assert low <= retry_after({"Retry-After": written}) <= high
    assert low <= retry_after({"retry-after": written}) <= high


def test_an_unreadable_retry_after_says_nothing() -> None:
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": "no"}}', "no"),
        ('{"error": "no"}', "no"),
        ('{"object": "error", "message": "no", "code": 400}', "no"),
        ('{"detail": "no"}', "no"),
        ('{"detail": [{"loc": ["body"], "msg": "no"}]}', '[{"loc": ["body"], "msg": "no"}]'),
        ("<b>no</b>\n  at all", "<b>no</b> at all"),
    ],
)
def test_the_words_of_an_error(body, words) -> None:
    assert words_of(body) == words
