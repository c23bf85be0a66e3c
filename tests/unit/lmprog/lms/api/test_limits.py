"""Calls in flight, requests and tokens a minute."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from lmprog.compiler.plan import Limits
from lmprog.lms import api
from lmprog.lms.api.limits import Gate, estimate
from lmprog.lms.lm import Request, Usage
from tests.standing_in import standing_in
from tests.unit.lmprog.lms.api.server_for_api import DIRECT, LITELLM, failing_status
from tests.waiting import until_true


@pytest.mark.parametrize("model", [DIRECT, LITELLM])
def test_no_more_calls_in_flight_than_allowed_in_any_loop(remote, server, model) -> None:
    async def answer(asked):
        await until_true(lambda: server.most_active >= 5, "the fifth call")
        await asyncio.sleep(0.02)  # in which a sixth would come
        return "ok"

    server.answer = answer
    program = remote(model, **{"timeout: 20": "timeout: 60, concurrency: 5"})
    for _ in range(2):
        results = asyncio.run(collected(program, 30))
        assert all(result.error is None for result in results)
    assert server.most_active == 5


async def collected(program, count: int) -> list:
    return [result async for result in program.stream([{"text": str(n)} for n in range(count)], concurrency=count)]


def test_a_call_that_waits_to_be_tried_again_holds_no_place(remote, server, monkeypatch) -> None:
    async def sleep(seconds: float) -> None:
        await until_true(lambda: len(server.asked) == 6, "the calls beside it")

    monkeypatch.setattr(api, "asyncio", standing_in(asyncio, sleep=sleep))
    failed: set[str] = set()

    def answer(asked):
        text = asked.body["messages"][-1]["content"]
        if text == "0" and text not in failed:
            failed.add(text)
            return failing_status(500)
        return "ok"

    server.answer = answer
    program = remote(**{"timeout: 20": "concurrency: 1"})
    assert all(result.error is None for result in program.map([{"text": str(n)} for n in range(6)], concurrency=6))
    order = [asked.body["messages"][-1]["content"] for asked in server.asked]
    assert order == ["0", "1", "2", "3", "4", "5", "0"]


class Clock:
    """Stands for time and asyncio.sleep in the gate: nobody waits, and `due` holds when each call may begin."""

    Semaphore = asyncio.Semaphore

    def __init__(self) -> None:
        self.now, self.due = 0.0, []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        due = self.now + seconds
        self.due.append(due)
        await asyncio.sleep(0)
        self.now = max(self.now, due)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("lmprog.lms.api.limits.time", made)
    monkeypatch.setattr("lmprog.lms.api.limits.asyncio", made)
    return made


def test_requests_a_minute_are_spaced(remote, server, clock) -> None:
    program = remote(**{"timeout: 20": "requests_per_minute: 600"})
    program.map([{"text": str(n)} for n in range(8)], concurrency=8)
    assert len(server.asked) == 8
    assert sorted(clock.due) == pytest.approx([0.1 * number for number in range(8)])


def test_tokens_a_minute_are_paid_for_before_the_next_call(remote, server, clock) -> None:
    # Each call takes 14 tokens by its usage, which is 0.14 seconds at this rate; it was estimated at more.
    program = remote(
        **{"timeout: 20": "tokens_per_minute: 6000", "api_key:": "params: {max_tokens: 30}\n        api_key:"}
    )
    program.map([{"text": str(n)} for n in range(6)], concurrency=1)
    assert len(server.asked) == 6
    assert clock.due == pytest.approx([0.14 * number for number in range(6)])


def test_calls_at_once_are_taken_as_estimated(clock) -> None:
    async def started() -> None:
        gate = Gate(Limits(tokens_per_minute=6000))

        async def call() -> None:
            async with gate.slot(Request([{"role": "user", "content": "four" * 10}], {"max_tokens": 10})):
                pass

        await asyncio.gather(*(call() for _ in range(4)))

    asyncio.run(started())
    assert clock.due == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_what_a_call_may_take() -> None:
    part = {"type": "text", "text": "x" * 40}
    messages = [{"role": "user", "content": [part, {"type": "image_url"}]}, {"role": "assistant", "content": None}]
    assert estimate(Request(messages, {"max_tokens": 5})) == 15
    assert estimate(Request(messages, {"max_completion_tokens": 7})) == 17
    assert estimate(Request(messages)) == 266


def test_a_cancelled_call_gives_its_place_back() -> None:
    async def run() -> None:
        gate = Gate(Limits(concurrency=1))
        request = Request([])

        async def call(seconds: float) -> None:
            async with gate.slot(request) as slot:
                await asyncio.sleep(seconds)
                slot.took(Usage(1, 1))

        gate.hold(0.05)
        tasks = [asyncio.create_task(call(5)) for _ in range(3)]
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(call(0), 60)

    asyncio.run(run())


@pytest.mark.parametrize("model", [DIRECT, LITELLM])
def test_cancellation_leaves_nothing_running(remote, server, model) -> None:
    async def answer(asked):
        await asyncio.sleep(30)
        return web.Response()

    server.answer = answer
    program = remote(model)

    async def run() -> None:
        task = asyncio.create_task(program.run({"text": "hi"}))
        while not server.active:
            await asyncio.wait([task], timeout=0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_true(lambda: not server.active, "the end of the request")

    asyncio.run(run())
