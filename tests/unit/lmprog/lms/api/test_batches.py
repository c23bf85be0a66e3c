"""Calls that wait for batches, against a stand-in for the provider: errors, batches that expire or fail, runs that are cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog.errors import UsageError
from lmprog.lms.api import batches
from lmprog.lms.api.batch_lm import BatchRun
from lmprog.lms.api.server import Server
from tests.unit.lmprog.lms.api.batch_server import BatchServer
from tests.unit.lmprog.lms.api.server_for_api import reply

SPEC = """
lmprog: 1
inputs: {text: str}
outputs: {second: "${{ steps.b.reply }}"}
lms:
  remote: {model: openai/x, api_base: URL, api_key: none-needed, params: {temperature: 0}, price: {input: 4, output: 8}}
modules:
  ask: {inputs: {text: str}, outputs: {reply: str}, prompt: {user: "{{ text }}"}}
  again: {inputs: {text: str}, outputs: {reply: str}, prompt: {user: "again {{ text }}"}}
steps:
  a: {module: ask, with: {text: "${{ inputs.text }}"}}
  b: {module: again, with: {text: "${{ steps.a.reply }}"}}
"""
ROWS = [{"text": f"row {n}"} for n in range(5)]
WANTED = [{"second": f"again row {n}"} for n in range(5)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.setattr(batches, "QUIET", 0.03)
    monkeypatch.setattr(batches, "FIRST_POLL", 0.01)
    monkeypatch.setattr(batches, "MAX_POLL", 0.02)
    made = BatchServer()
    yield made
    made.close()


class Runs:
    """Runs the program through batches, as a command does: a life at a time on the same folder."""

    def __init__(self, program: lmprog.Program, folder: Path) -> None:
        self.program, self.folder, self.said = program, folder, list[str]()

    def __call__(self, *, forget: bool = True) -> list[Any]:
        with ExitStack() as held:
            run = BatchRun(self.folder, self.said.append, held)
            results = self.program.batched(run.make).map(ROWS, concurrency=10)
            if forget:
                run.forget(whole=all(result.error is None for result in results))
            return results


@pytest.fixture
def runs(write, server, tmp_path) -> Runs:
    return Runs(lmprog.load(write(SPEC.replace("URL", server.url))), tmp_path / "batches")


def test_calls_that_can_be_made_together_are_one_batch_at_half_of_the_price(runs, server) -> None:
    results = runs()
    assert [result.outputs for result in results] == WANTED
    assert [len(server.batches), len(server.requests)] == [2, 10]
    body = server.requests[0]["body"]
    assert (body["model"], body["temperature"]) == ("x", 0) and "stream" not in body
    # 11 prompt tokens at 4 and 3 reply tokens at 8 dollars a million, halved.
    assert results[0].trace[0].usage.usd == pytest.approx((11 * 4 + 3 * 8) / 1e6 / 2)
    assert any("batch_0 of 5 requests is at the provider" in said for said in runs.said)
    assert any("batch_1 is completed, 5 of 5 done" in said for said in runs.said)
    assert list(runs.folder.glob("*.json")) == []


def test_equal_requests_have_replies_of_their_own(runs, server) -> None:
    with ExitStack() as held:
        run = BatchRun(runs.folder, runs.said.append, held)
        rows = [{"text": "same"}] * 3
        program = runs.program.batched(run.make)
        assert [result.error for result in program.map(rows, concurrency=3)] == [None] * 3
    assert len({entry["custom_id"] for entry in server.requests}) == 6


@pytest.mark.parametrize("ends", [["expired"], ["expired", "expired"], ["completed", "expired"]])
def test_what_a_batch_that_expired_has_not_answered_is_asked_again(runs, server, ends) -> None:
    server.ends = ends
    assert [result.outputs for result in runs()] == WANTED
    answered = [entry["custom_id"] for entry in server.requests]
    assert len(answered) == len(set(answered)) > 10


def test_a_batch_is_not_tried_for_ever(runs, server, monkeypatch) -> None:
    monkeypatch.setattr(batches, "TRIES", 2)
    server.answer = lambda body: "batch_expired"
    results = runs()
    assert {result.error.kind for result in results} == {"provider"}
    assert "could not be executed in time" in results[0].error.message
    assert len(server.batches) == 2


def test_requests_that_fail_alone_fail_their_rows_alone(runs, server) -> None:
    refused = {"error": {"message": "no such thing"}}

    def answer(body: dict[str, Any]) -> Any:
        said = body["messages"][-1]["content"]
        return (400, refused) if said == "row 1" else (503, refused) if said == "row 2" else (200, reply(said))

    server.answer = answer
    results = runs()
    assert [result.error is None for result in results] == [True, False, False, True, True]
    assert "openai/x gave no answer in a batch: HTTP 400: no such thing" in results[1].error.message
    counts = [len(batch["request_counts"]) and batch["request_counts"]["total"] for batch in server.batches.values()]
    assert sum(counts) == 5 + 3 + 2  # the busy one is asked three times, the refused one once


@pytest.mark.parametrize(
    ("status", "words"), [("failed", "batch_0 failed: the file is too long"), ("cancelled", "was cancelled")]
)
def test_a_batch_that_fails_or_is_cancelled_is_not_sent_again_but_by_the_next_run(runs, server, status, words) -> None:
    server.ends = [status]
    results = runs()
    assert all(words in result.error.message for result in results)
    assert len(server.batches) == 1
    assert [result.outputs for result in runs()] == WANTED


@pytest.mark.parametrize("status", ["", "in_progress"])
def test_a_batch_that_never_ends_is_not_looked_at_for_ever(runs, server, monkeypatch, status) -> None:
    monkeypatch.setattr(batches, "MAX_UNKNOWN", 3)
    monkeypatch.setattr(batches, "MAX_WAIT", 0.1)
    server.ends, server.looks = [status] * 50, 1
    server._end = lambda batch, now: batch.update(status=now or "at rest")
    results = runs(forget=False)
    words = "is in_progress after two days" if status else "has the status 'at rest', which no batch has"
    assert all(words in result.error.message for result in results)
    assert {result.error.kind for result in results} == {"provider"} and len(server.batches) == 1
    assert list(runs.folder.glob("*.json"))  # a later run goes on with it


@pytest.mark.slow
def test_a_provider_that_is_away_for_a_while_is_asked_again(runs, server) -> None:
    server.failing = [503, 500, 429, 502]
    assert [result.outputs for result in runs()] == WANTED
    assert len(server.batches) == 2


def test_a_run_after_one_that_lost_rows_asks_for_these_alone(runs, server) -> None:
    whole, lost = server.answer, {"error": {"message": "no"}}
    server.answer = lambda body: (400, lost) if body["messages"][-1]["content"] == "row 3" else whole(body)
    assert [result.error is None for result in runs()].count(False) == 1
    server.answer, before = whole, len(server.requests)
    assert [result.outputs for result in runs()] == WANTED
    assert [entry["body"]["messages"][-1]["content"] for entry in server.requests[before:]] == ["row 3", "again row 3"]


async def end() -> None:
    """End the process: nothing that is at work goes on."""
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(60)


@pytest.mark.slow
def test_a_run_that_is_cut_at_any_request_goes_on_without_a_second_batch(runs, server, monkeypatch) -> None:
    """Each moment: before a request is sent, and after the provider has had it and before its answer is read."""
    inner = Server._send
    server.looks = 2
    runs()
    moments = len(server.asked)
    assert moments >= 10
    for cut in range(2 * moments):
        server.batches.clear()
        server.files.clear()
        sent = 0

        async def send(self: Server, path: str, data: Any, cut: int = cut) -> Any:
            nonlocal sent
            sent += 1
            if sent == cut // 2 + 1 and cut % 2 == 0:
                await end()
            answer = await inner(self, path, data)
            if sent == cut // 2 + 1:
                await end()
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(Server, "_send", send)
            with pytest.raises((asyncio.CancelledError, KeyboardInterrupt)):
                runs()
        assert [result.outputs for result in runs()] == WANTED, cut
        ids = [entry["custom_id"] for entry in server.requests]
        assert len(ids) == len(set(ids)) == 10, cut
        assert list(runs.folder.glob("*.json")) == []


def test_two_processes_do_not_share_a_file_of_batches(runs) -> None:
    with ExitStack() as held, ExitStack() as other:
        runs.program.batched(BatchRun(runs.folder, print, held).make)
        with pytest.raises(lmprog.LmprogError, match="is being written by"):
            runs.program.batched(BatchRun(runs.folder, print, other).make)


@pytest.mark.parametrize("model", ["anthropic/x", "hosted_vllm/x", "openai/responses/x"])
def test_a_provider_without_batches_is_refused(runs, write, model: str) -> None:
    text = SPEC.replace("openai/x", model).replace("api_base: URL, ", "" if "resp" in model else "api_base: http://a, ")
    program = lmprog.load(write(text))
    with ExitStack() as held, pytest.raises(UsageError, match="has no batches that lmprog knows how to ask for"):
        program.batched(BatchRun(runs.folder, print, held).make)


def test_a_model_in_this_process_answers_itself(write, tmp_path) -> None:
    program = lmprog.load(write(SPEC.replace("openai/x, api_base: URL, api_key: none-needed", "embedded/smollm2-135m")))

    def make(lm: Any) -> Any:
        raise AssertionError

    assert not program.batched(make).plan.lms["remote"].batch


def test_long_lists_are_several_batches(runs, server, monkeypatch) -> None:
    monkeypatch.setattr(batches, "MOST_REQUESTS", 2)
    assert [result.outputs for result in runs()] == WANTED
    assert len(server.batches) == 6
    monkeypatch.setattr(batches, "MOST_REQUESTS", 50_000)
    monkeypatch.setattr(batches, "MOST_BYTES", 700)
    before = len(server.batches)
    assert [result.outputs for result in runs()] == WANTED
    assert len(server.batches) - before > 2


def test_a_list_of_batches_that_repeats_its_first_page_has_an_end() -> None:
    class Repeats:
        def get(self, path: str) -> str:
            return path

    found = batches.Batches("openai/x", Repeats(), None, print, str)  # type: ignore[arg-type]

    async def page(path: str) -> Any:
        return {"data": [{"id": "batch_1", "metadata": {"lmprog": "other"}}], "has_more": True}

    found._sent = page  # type: ignore[method-assign]
    assert asyncio.run(asyncio.wait_for(found._find("key"), 5)) is None
