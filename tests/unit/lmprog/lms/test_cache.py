"""Kept answers: found again by all that a reply depends on, shared between processes, and never a reason to fail."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmprog import Completion, ProviderError, Request, Usage, UsageError
from lmprog.compiler.plan import LM, AdapterReference, Cache
from lmprog.compiler.types.lattice import STR, Object
from lmprog.lms.answer_file import AnswerCache
from lmprog.lms.cached import CachedLM
from lmprog.lms.lm import ToolCall, ToolOffer
from tests.waiting import until_true

REQUEST = Request(messages=[{"role": "user", "content": "é\ud83d"}], params={"temperature": 1.0}, seed=3)
REPLY = Completion(
    "ö\ud83d", (1, 2), (-0.5, -1.0), (3,), Usage(5, 2, 0.25, 1), "length", (ToolCall("1", "t", {"a": 1}),)
)


def declared(folder: Path, **more: Any) -> LM:
    return LM("lm", "openai/x", cache=Cache(folder=folder), **more)


def ask(lm: Any, *requests: Request) -> list[Any]:
    async def all_of() -> list[Any]:
        return await asyncio.gather(*map(lm.complete, requests), return_exceptions=True)

    return asyncio.run(all_of())


def test_an_answer_comes_back_whole_free_and_marked_also_in_another_process(tmp_path, scripted) -> None:
    lm = scripted(lambda request: REPLY)
    assert ask(CachedLM(lm, declared(tmp_path)), REQUEST) == [REPLY]
    told: list[str | None] = []
    # Another object stands for another process: nothing is shared but the file.
    (found,) = ask(CachedLM(lm, declared(tmp_path)), replace(REQUEST, on_text=told.append))
    assert found == replace(
        REPLY, usage=Usage(5, 2, 0.0, 1), cached=True, token_ids=[1, 2], logprobs=[-0.5, -1.0], prompt_token_ids=[3]
    )
    assert (len(lm.requests), told) == (1, [REPLY.text])


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"seed": None},
        {"params": {"temperature": 0.5}},
        {"messages": [{"role": "system", "content": "é\ud83d"}]},
        {"format": "json"},
        {"decoding": "constrained"},
        {"output_type": Object((("a", STR),))},
        {"tools": (ToolOffer("t", "does", {}),)},
        {"adapter": AdapterReference("a", sha256="1")},
    ],
)
def test_whatever_a_reply_depends_on_makes_another_request(tmp_path, scripted, other) -> None:
    lm = scripted(lambda request: "a")
    cached = CachedLM(lm, declared(tmp_path))
    ask(cached, REQUEST)
    ask(cached, replace(REQUEST, **other))
    assert len(lm.requests) == 2
    ask(cached, replace(REQUEST, constant=(1, 0), key=(1,)), replace(REQUEST, **other))
    assert len(lm.requests) == 2


def test_the_model_and_where_it_is_served_count_too(tmp_path, scripted) -> None:
    lm = scripted(lambda request: "a")
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_text("1")
    for model in ("openai/x", "openai/y", f"hf/{folder}"):
        ask(CachedLM(lm, replace(declared(tmp_path), model=model)), REQUEST)
    (folder / "model.safetensors").write_text("other weights")
    ask(CachedLM(lm, replace(declared(tmp_path), model=f"hf/{folder}")), REQUEST)
    assert len(lm.requests) == 4


def test_weights_that_may_change_under_their_name_are_not_kept(tmp_path, scripted) -> None:
    lm = scripted(lambda request: "a")
    cached = CachedLM(lm, declared(tmp_path))
    for _ in range(2):
        ask(cached, replace(REQUEST, adapter=AdapterReference("folder")))
    assert len(lm.requests) == 2


def test_failures_are_not_kept(tmp_path, scripted) -> None:
    replies = iter([ProviderError("down"), "up"])
    lm = scripted(lambda request: next(replies))
    cached = CachedLM(lm, declared(tmp_path))
    assert isinstance(ask(cached, REQUEST)[0], ProviderError)
    assert ask(cached, REQUEST, REQUEST)[1].text == "up"
    assert len(lm.requests) == 2


def test_equal_requests_at_one_time_are_asked_once(tmp_path, scripted) -> None:
    lm = scripted(lambda request: Completion("a", usage=Usage(1, 1, 0.5)), delay=0.2)
    found = ask(CachedLM(lm, declared(tmp_path)), *[REQUEST] * 20, replace(REQUEST, seed=9))
    assert len(lm.requests) == 2
    assert sum(completion.usage.usd for completion in found) == 1.0
    lm = scripted(lambda request: ProviderError("down"), delay=0.2)
    found = ask(CachedLM(lm, declared(tmp_path)), *[replace(REQUEST, seed=5)] * 20)
    assert len(lm.requests) == 1
    assert all(isinstance(error, ProviderError) for error in found)


def test_who_waits_asks_when_the_asker_is_cancelled(tmp_path, scripted) -> None:
    lm = scripted(lambda request: "a", delay=lambda request: 60 if len(lm.requests) == 1 else 0)
    cached = CachedLM(lm, declared(tmp_path))

    async def run() -> str:
        first = asyncio.create_task(cached.complete(REQUEST))
        second = asyncio.create_task(cached.complete(REQUEST))
        await until_true(lambda: lm.active, "the first request")
        first.cancel()
        return (await second).text

    assert asyncio.run(run()) == "a"
    assert len(lm.requests) == 2


def test_nobody_else_can_read_it_unless_it_is_shared(tmp_path) -> None:
    for shared, folder, file in ((False, 0o700, 0o600), (True, 0o2770, 0o660)):
        cache = AnswerCache(tmp_path / str(shared), shared)
        cache.put("a", {})
        assert stat.S_IMODE(cache.path.parent.stat().st_mode) == folder
        assert {stat.S_IMODE(path.stat().st_mode) for path in cache.path.parent.iterdir()} == {file}
        cache.close()


def test_a_shared_cache_without_a_folder_is_refused(tmp_path, scripted, monkeypatch) -> None:
    shared = replace(declared(tmp_path), cache=Cache(shared=True))
    for unset in (lambda: None, lambda: monkeypatch.setenv("LMPROG_SHARED_CACHE", "")):
        unset()
        (error,) = ask(CachedLM(scripted(lambda request: "a"), shared), REQUEST)
        assert isinstance(error, UsageError)
        assert "folder: ..." in str(error) and "LMPROG_SHARED_CACHE" in str(error)
    monkeypatch.setenv("LMPROG_SHARED_CACHE", str(tmp_path / "all"))
    assert ask(CachedLM(scripted(lambda request: "a"), shared), REQUEST)[0].text == "a"
    assert (tmp_path / "all" / "answers.sqlite").exists()


@pytest.mark.parametrize("broken", [b"not a database at all" * 100, None, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_broken_file_is_set_aside_with_one_warning(tmp_path, capfd, broken) -> None:
    path = tmp_path / "answers.sqlite"
    if broken is None:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE answers (other TEXT)")
        other.close()
    else:
        path.write_bytes(broken)
    cache = AnswerCache(tmp_path)
    for key in "ab":
        cache.get(key)
        cache.put(key, {"key": key})
    cache.put("b", {"key": "again"})
    assert cache.get("b") == {"key": "b"}
    err = capfd.readouterr().err
    assert err.count("lmprog: ") == 1 and "is broken; it is set aside" in err
    assert len(list(tmp_path.glob("answers.sqlite.broken-*"))) == 1


def test_a_folder_that_cannot_be_is_a_warning(tmp_path, capfd) -> None:
    (tmp_path / "file").write_text("")
    cache = AnswerCache(tmp_path / "file" / "below")
    cache.put("a", {})
    assert cache.get("a") is None
    assert capfd.readouterr().err.count("cannot be used") == 1


def test_caches_that_begin_at_once_all_keep_what_they_are_given(tmp_path) -> None:
    """SQLite waits for no one that is changing the journal of a new file."""
    kept = []

    def begin(folder: Path, key: str, together: threading.Barrier) -> None:
        together.wait()
        cache = AnswerCache(folder)
        cache.put(key, {})
        kept.append(cache.get(key))
        cache.close()

    for number in range(60):
        together = threading.Barrier(6)
        threads = [
            threading.Thread(target=begin, args=(tmp_path / str(number), str(key), together)) for key in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert kept == [{}] * 360


def test_processes_share_it(tmp_path) -> None:
    code = """
import sys
from pathlib import Path
from lmprog.lms.answer_file import AnswerCache
cache = AnswerCache(Path(sys.argv[1]))
for key in range(200):
    cache.put(f"{key}", {"key": key})
    assert cache.get(f"{key}") == {"key": key}
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [(process.communicate()[1], process.returncode) for process in running] == [("", 0)] * 3
    cache = AnswerCache(tmp_path)
    assert [cache.get(str(key)) for key in range(200)] == [{"key": key} for key in range(200)]


@pytest.mark.parametrize(
    ("model", "variable"),
    [("hosted_vllm/x", "HOSTED_VLLM_API_BASE"), ("openai/x", "OPENAI_BASE_URL"), ("azure/x", "AZURE_API_BASE")],
)
def test_an_address_of_the_environment_tells_servers_apart(tmp_path, scripted, monkeypatch, model, variable) -> None:
    lm = scripted(lambda request: "a")
    for address in ("http://one/v1", "http://two/v1", "http://one/v1"):
        monkeypatch.setenv(variable, address)
        ask(CachedLM(lm, replace(declared(tmp_path), model=model)), REQUEST)
    assert len(lm.requests) == 2
