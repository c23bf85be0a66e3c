"""LMs behind an API, against a server on this machine that speaks the protocol and misbehaves."""

from __future__ import annotations

import asyncio
import json
import weakref
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

import lmprog
from lmprog import ProviderError, UsageError
from lmprog.lms import api
from lmprog.lms.lm import Request
from tests.standing_in import standing_in

SPEC = """
    lmprog: 1
    inputs: {text: str}
    lms:
      remote:
        model: openai/x
        api_base: "${{ env.TEST_API_BASE }}"
        api_key: "${{ env.TEST_KEY }}"
        params: {temperature: 0.5, max_tokens: 20}
    modules:
      ask: {lm: remote, inputs: {text: str}, outputs: {reply: str}, instructions: Answer.}
"""
KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """The seconds of each sleep."""
    asked: list[float] = []

    async def recorded(seconds: float) -> None:
        asked.append(seconds)
        await asyncio.sleep(seconds)

    monkeypatch.setattr(api, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(api, "MAX_WAIT", 0.08)
    monkeypatch.setattr(api, "asyncio", standing_in(asyncio, sleep=recorded))
    return asked


@pytest.fixture
def remote(write, provider, monkeypatch) -> lmprog.Program:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    monkeypatch.setenv("TEST_KEY", KEY)
    return lmprog.load(write(SPEC))


def failure(status: int, message: str = "sorry", **headers: str) -> tuple[int, dict[str, str], str]:
    return status, headers, json.dumps({"error": {"message": message, "type": "t", "code": None}})


def test_a_reply_with_its_usage(remote, provider) -> None:
    provider.replies = ["hello"]
    result = remote(text="hi")
    (made,) = result.trace
    assert result.outputs == {"reply": "hello"}
    assert (made.text, made.finish_reason, made.weights) == ("hello", "stop", "openai/x")
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.usd) == (11, 3, None)
    (sent,) = provider.requests
    assert sent["messages"] == [{"role": "system", "content": "Answer."}, {"role": "user", "content": "hi"}]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("x", 0.5, 20)
    assert provider.keys == [f"Bearer {KEY}"]


def test_a_request_is_freed_with_its_call(remote, provider) -> None:
    """A circle of references would keep it until the garbage collector comes, which takes longer than the call."""

    class Messages(list):  # what is looked at must allow weak references
        pass

    messages = Messages([{"role": "user", "content": "hi"}])
    kept = weakref.ref(messages)
    provider.replies = ["hello"]
    assert asyncio.run(remote.lms["remote"].complete(Request(messages))).text == "hello"
    del messages
    assert kept() is None


def test_a_price_in_the_spec_makes_the_cost(write, provider, remote) -> None:
    priced = SPEC.replace("model: openai/x", "model: openai/x\n        price: {input: 2.0, output: 10.0}")
    (made,) = lmprog.load(write(priced))(text="hi").trace
    assert made.usage.usd == pytest.approx((11 * 2.0 + 3 * 10.0) / 1e6)


def test_a_busy_provider_is_asked_again_when_it_says(remote, provider, waits) -> None:
    provider.replies = [failure(429, **{"retry-after": "0.3"}), failure(503, **{"retry-after": "0.2"}), "at last"]
    assert remote(text="hi").outputs == {"reply": "at last"}
    assert len(provider.requests) == 3
    assert [wait for wait in waits if wait >= 0.1] == [0.3, 0.2]


@pytest.mark.slow
def test_a_busy_provider_may_name_the_time(remote, provider, waits) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    provider.replies = [failure(429, **{"retry-after": soon}), failure(429, **{"retry-after": "soon"}), "at last"]
    assert remote(text="hi").outputs == {"reply": "at last"}
    assert 0.5 < max(waits) <= 2


def test_a_provider_that_asks_for_a_day_is_not_waited_for(remote, provider, waits) -> None:
    provider.replies = [failure(429, "quota spent", **{"retry-after": "86400"})]
    (result,) = remote.map([{"text": "hi"}])
    assert str(result.error).endswith("quota spent (to be asked again in 86400 s)")
    assert waits == []


def test_without_a_word_from_the_provider_the_waits_grow(remote, provider, waits) -> None:
    over = failure(429, **{"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})
    provider.replies = [failure(500), failure(503), None, over, "no JSON", (200, {"content-type": "text/html"}, "<p>")]
    provider.replies = [reply if reply != "no JSON" else (200, {}, reply) for reply in provider.replies]
    assert remote(text="hi").outputs == {"reply": "ok"}
    assert len(provider.requests) == 7
    assert [0.005 * 2 ** min(n, 3) <= wait <= 0.01 * 2 ** min(n, 3) for n, wait in enumerate(waits)] == [True] * 6


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (failure(500, "the model fell over"), "the model fell over"),
        (failure(429, "slow down\nor else"), "slow down"),
        (None, ""),
    ],
)
def test_a_provider_that_stays_down(remote, provider, reply, words) -> None:
    provider.otherwise = reply
    (result,) = remote.map([{"text": "hi"}])
    assert result.error.kind == "provider"
    assert str(result.error).startswith("ask: openai/x gave no answer (tried 8 times): ")
    assert words in str(result.error)
    assert "\n" not in str(result.error)
    assert len(provider.requests) == 8
    assert [(made.text, made.error) for made in result.trace] == [(None, result.error.message)]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not_tried_again(remote, provider, status) -> None:
    provider.otherwise = failure(status, "never")
    (result,) = remote.map([{"text": "hi"}])
    assert result.error.kind == "provider"
    assert "never" in str(result.error)
    assert "tried" not in str(result.error)
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "body",
    # Each waits for the tries of the client; the others are of the whole suite.
    [
        "this is no JSON",
        *(
            pytest.param(body, marks=pytest.mark.slow)
            for body in ("{}", "[]", '{"choices": []}', '{"choices": [{"message": null}]}', '"text"')
        ),
    ],
)
def test_garbage_is_a_provider_failure(remote, provider, body) -> None:
    provider.otherwise = (200, {}, body)
    (result,) = remote.map([{"text": "hi"}])
    assert result.error is not None and result.error.kind == "provider"
    assert str(result.error).count("openai/x") == 1
    assert len(provider.requests) == 8


def test_an_empty_reply_is_a_reply(remote, provider) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": None}
    provider.replies = [(200, {}, json.dumps(body))]
    (made,) = remote(text="hi").trace
    assert (made.text, made.outputs) == ("", {"reply": ""})


@pytest.mark.parametrize("fill", [0, 380, 395])
def test_the_key_stands_in_no_message(remote, provider, fill) -> None:
    provider.otherwise = failure(401, f"{'.' * fill}wrong key {KEY}, Bearer {KEY}")
    (result,) = remote.map([{"text": "hi"}])
    (made,) = result.trace
    for text in (str(result.error), str(made), json.dumps(made.as_json())):
        assert KEY[:12] not in text
    assert "[key]" in str(result.error) or fill


def test_a_key_from_the_environment_stands_in_no_message(write, provider, monkeypatch) -> None:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    spec = "\n".join(line for line in SPEC.splitlines() if "api_key" not in line)
    provider.otherwise = failure(401, f"wrong key {KEY}")
    (result,) = lmprog.load(write(spec)).map([{"text": "hi"}])
    assert provider.keys == [f"Bearer {KEY}"]
    assert KEY not in str(result)
    assert "wrong key [key]" in str(result.error)


def test_a_variable_that_is_not_set_is_named(remote, monkeypatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(UsageError, match=r"TEST_KEY.*set the variable"):
        remote(text="hi")


def test_many_rows_at_once_and_again_in_another_loop(remote, provider) -> None:
    for _ in range(2):
        results = remote.map([{"text": str(index)} for index in range(20)], concurrency=10)
        assert [result.outputs for result in results] == [{"reply": "ok"}] * 20
    assert len(provider.requests) == 40


def test_cancellation_ends_the_request(remote, provider) -> None:
    async def run() -> None:
        task = asyncio.create_task(remote.run({"text": "hi"}))
        while not provider.requests:
            await asyncio.wait([task], timeout=0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    provider.seconds = 0.5
    asyncio.run(run())
    assert len(provider.requests) == 1


def test_nobody_listens(closed_port, write, monkeypatch) -> None:
    monkeypatch.setenv("TEST_API_BASE", f"http://127.0.0.1:{closed_port}/v1")
    monkeypatch.setenv("TEST_KEY", KEY)
    with pytest.raises(lmprog.RunError) as caught:
        lmprog.load(write(SPEC))(text="hi")
    assert caught.value.exit_status == ProviderError.exit_status == 3
    assert str(caught.value).startswith("ask: openai/x gave no answer (tried 8 times): ")
