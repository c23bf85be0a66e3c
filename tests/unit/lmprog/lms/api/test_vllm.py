"""Servers of vLLM: token ids with their log-probabilities, and adapters."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from lmprog import UsageError
from lmprog.compiler.plan import AdapterReference
from lmprog.errors import ProviderError
from lmprog.lms.api import api_lm
from lmprog.lms.lm import Request
from tests.unit.lmprog.lms.api.server_for_api import LITELLM, reply, streamed

VLLM = "hosted_vllm/base"
WEIGHTS = b"weights"
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def adapter(tmp_path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "base"}))
    return folder


def logprobs(*values: float) -> dict[str, Any]:
    return {"content": [{"token": "t", "logprob": value, "bytes": None, "top_logprobs": []} for value in values]}


def test_ids_and_their_logprobs(remote, server) -> None:
    whole = {**reply("ok", token_ids=[5, 6, 2], logprobs=logprobs(-0.5, -1.0, 0.0)), "prompt_token_ids": [1, 2]}
    server.answer = lambda asked: whole
    (made,) = remote(VLLM)(text="a").trace
    assert (made.token_ids, made.logprobs, made.prompt_token_ids) == ([5, 6, 2], [-0.5, -1.0, 0.0], [1, 2])
    body = server.asked[0].body
    assert (body["model"], body["return_token_ids"], body["logprobs"]) == ("base", True, True)
    assert isinstance(body["seed"], int)


def test_ids_in_pieces(remote, server) -> None:
    pieces = [
        {"prompt_token_ids": [1, 2], "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"index": 0, "delta": {"content": "o"}, "token_ids": [5], "logprobs": logprobs(-0.5)}]},
        {"choices": [{"index": 0, "delta": {"content": "k"}, "token_ids": [6, 2], "logprobs": logprobs(-1.0, 0.0)}]},
    ]
    server.answer = lambda asked: streamed(pieces)
    program = remote(VLLM)
    request = dataclasses.replace(_request(), on_text=lambda text: None)
    made = asyncio.run(program.lms["remote"].complete(request))
    assert (made.text, made.token_ids, made.logprobs) == ("ok", [5, 6, 2], [-0.5, -1.0, 0.0])
    assert made.prompt_token_ids == [1, 2]


@pytest.mark.parametrize("more", [{}, {"token_ids": [5, 6], "logprobs": logprobs(-0.5)}, {"logprobs": logprobs(-0.5)}])
def test_logprobs_only_beside_as_many_ids(remote, server, more) -> None:
    server.answer = lambda asked: reply("ok", **more)
    (made,) = remote(VLLM)(text="a").trace
    assert made.logprobs is None
    assert made.token_ids == more.get("token_ids")


def test_an_adapter_is_loaded_once_and_then_named(remote, server, adapter) -> None:
    async def answer(asked):
        if asked.path == "/v1/load_lora_adapter":
            await asyncio.sleep(0.1)
            return web.Response(text="Success")
        return "ok"

    server.answer = answer
    program = with_adapter(remote, adapter)
    assert all(result.error is None for result in program.map([{"text": str(n)} for n in range(20)], concurrency=20))
    name = f"lmprog-{DIGEST[:16]}"
    loads = [asked.body for asked in server.asked if asked.path == "/v1/load_lora_adapter"]
    assert loads == [{"lora_name": name, "lora_path": str(adapter)}]
    assert {asked.body["model"] for asked in server.asked if asked.path == "/v1/chat/completions"} == {name}


def test_an_adapter_that_the_server_has_is_as_good(remote, server, adapter) -> None:
    refused = {"error": {"message": "The lora adapter 'x' has already been loaded.", "code": 400}}
    server.answer = lambda asked: web.json_response(refused, status=400) if "load" in asked.path else "ok"
    assert with_adapter(remote, adapter)(text="a").outputs == {"reply": "ok"}


def test_a_server_that_is_busy_loads_it_later(remote, server, adapter) -> None:
    ways = [web.Response(text="Success"), web.json_response({"error": {"message": "busy"}}, status=503)]
    server.answer = lambda asked: ways.pop() if "load" in asked.path else "ok"
    assert with_adapter(remote, adapter)(text="a").outputs == {"reply": "ok"}


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (404, "Not Found", "start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"),
        (404, "No adapter found for /x", "is {folder} a folder that the server sees"),
        (400, "rank 64 is too large", "(HTTP 400: rank 64 is too large); start the server with a --max-lora-rank"),
        (400, "No free lora slots", "start the server with a higher --max-loras"),
        (400, "no such base model", "(HTTP 400: no such base model); is {folder} a folder"),
    ],
)
def test_why_a_server_does_not_load_it(remote, server, adapter, status, message, words) -> None:
    server.answer = lambda asked: web.json_response({"error": {"message": message}}, status=status)
    (result,) = with_adapter(remote, adapter).map([{"text": "a"}])
    assert result.error.kind == "provider"
    assert words.format(folder=adapter) in result.error.message
    assert len(server.asked) == 1


def test_an_adapter_that_is_not_there_or_another(remote, server, adapter) -> None:
    program = with_adapter(remote, adapter, sha256=DIGEST)
    (adapter / "adapter_model.safetensors").write_bytes(b"others")
    with pytest.raises(UsageError, match="sha256 differs"):
        program(text="a")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"the LM 'remote': there is no adapter in .*; name the folder"):
        program(text="a")
    assert server.asked == []


def test_an_adapter_that_the_server_has_lost_is_loaded_again_once(remote, server, adapter) -> None:
    has: set[str] = set()

    def answer(asked: Any) -> Any:
        if asked.path == "/v1/load_lora_adapter":
            has.add(asked.body["lora_name"])
            return web.Response(text="Success")
        if len(server.asked) == 30:
            has.clear()  # started anew
        if asked.body["model"] not in has:
            said = f"The model `{asked.body['model']}` does not exist."
            return web.json_response({"error": {"message": said}}, status=404)
        return "ok"

    server.answer = answer
    program = with_adapter(remote, adapter)
    assert all(result.error is None for result in program.map([{"text": str(n)} for n in range(60)], concurrency=20))
    assert [asked.path for asked in server.asked].count("/v1/load_lora_adapter") == 2


def test_a_server_that_never_has_what_it_has_loaded_is_not_asked_for_ever(remote, server, adapter) -> None:
    def answer(asked: Any) -> Any:
        said = {"error": {"message": f"The model `{asked.body.get('model')}` does not exist."}}
        return web.Response(text="Success") if "load" in asked.path else web.json_response(said, status=404)

    server.answer = answer
    (result,) = with_adapter(remote, adapter).map([{"text": "a"}])
    assert "does not exist" in result.error.message
    assert len(server.asked) == 4


@pytest.mark.parametrize(("status", "fails"), [(200, False), (404, False), (400, False), (500, True)])
def test_an_adapter_is_unloaded_and_one_that_is_not_there_is_as_good(remote, server, adapter, status, fails) -> None:
    said = {"error": {"message": "The lora adapter 'x' cannot be found." if status < 500 else "not ready"}}
    server.answer = lambda asked: web.json_response(said, status=status)
    lm = api_lm(remote(VLLM).lms["remote"])
    if fails:
        with pytest.raises(ProviderError, match="not ready"):
            asyncio.run(lm.unload(AdapterReference(adapter)))
    else:
        asyncio.run(lm.unload(AdapterReference(adapter)))
    (asked,) = server.asked
    assert (asked.path, asked.body) == ("/v1/unload_lora_adapter", {"lora_name": f"lmprog-{DIGEST[:16]}"})


def test_a_server_without_an_address_takes_no_adapter(remote, adapter, monkeypatch) -> None:
    monkeypatch.delenv("HOSTED_VLLM_API_BASE", raising=False)
    lm = api_lm(remote(VLLM, **{'api_base: "${{ env.TEST_API_BASE }}"': "params: {}"}).lms["remote"])
    with pytest.raises(UsageError, match="write the address of the server as api_base"):
        asyncio.run(lm.load(AdapterReference(adapter)))


@pytest.mark.parametrize("model", ["openai/x", LITELLM])
def test_no_other_api_takes_an_adapter(remote, server, adapter, model) -> None:
    program = remote(model)
    request = dataclasses.replace(_request(), adapter=AdapterReference(adapter))
    with pytest.raises(
        UsageError, match=r"the LM 'remote' \(.*/x\) takes no adapter .*hosted_vllm.*; leave `adapter` out"
    ):
        asyncio.run(program.lms["remote"].complete(request))
    assert server.asked == []


def with_adapter(remote: Any, folder: Path, **more: str) -> Any:
    written = json.dumps({"path": str(folder), **more})
    return remote(VLLM, **{"limits:": f"adapter: {written}\n        limits:"})


def _request() -> Request:
    return Request([{"role": "user", "content": "hi"}])
