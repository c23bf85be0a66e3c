"""A stand-in for a server of vLLM: its protocol of adapters and token ids, errors included, over a small real model.

Which words and statuses it answers with is as in vLLM's `serving_models.py` and `api_server.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from aiohttp import web

from lmprog.compiler.plan import AdapterReference
from lmprog.lms.lm import Completion, Request
from lmprog.lms.local import LocalLM
from lmprog.lms.local.weights import Weights
from tests.server_in_thread import ServerInThread


class VllmServer(ServerInThread):
    """Serves the model in `folder` as `tiny`. What is set on it takes effect with the next request."""

    def __init__(self, folder: Path) -> None:
        self.lm = LocalLM(Weights(f"hf/{folder}", dtype="float32"))
        self.runtime_lora = True
        """VLLM_ALLOW_RUNTIME_LORA_UPDATING, and --enable-lora."""
        self.max_lora_rank = 16
        self.max_loras = 1
        self.sees: Callable[[Path], bool] = Path.is_dir
        self.temperature_scale = 1.0
        """How much hotter it samples than it is asked to, and says so: other kernels, carried too far."""
        self.mangle: Callable[[dict[str, Any]], None] = lambda reply: None
        self.failing: list[int] = []
        """Statuses that the next calls of either route of adapters get."""
        self.latency = 0.0
        """Seconds that each reply takes beside those of the model."""
        self.cut = 0
        """The number of connections that it breaks from now on: a server that is away."""
        self.loaded: dict[str, AdapterReference] = {}
        self.told: list[tuple[str, str]] = []
        """What it was told to do with adapters, and did: (load or unload, name)."""
        self.asked: list[dict[str, Any]] = []
        self._kept: dict[str, dict[str, Any]] = {}
        """Equal requests get equal answers: who shares a batch changes the last digits of a log-probability."""
        self.begin()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._broken])
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/load_lora_adapter", self._load)
        app.router.add_post("/v1/unload_lora_adapter", self._unload)
        return app

    @web.middleware
    async def _broken(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.cut:
            self.cut -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        found: web.StreamResponse = await handler(request)
        return found

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.failing:
            return _error(self.failing.pop(0), "InternalServerError", "engine is not ready")
        if not self.runtime_lora:
            return web.json_response({"detail": "Not Found"}, status=404)
        name, folder = body["lora_name"], Path(body["lora_path"])
        if name in self.loaded:
            return _error(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
        if not self.sees(folder):
            return _error(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {folder}")
        rank = json.loads((folder / "adapter_config.json").read_text())["r"]
        if rank > self.max_lora_rank:
            return _error(
                400, "BadRequestError", f"LoRA rank {rank} is greater than max_lora_rank {self.max_lora_rank}."
            )
        if len(self.loaded) >= self.max_loras:
            return _error(400, "BadRequestError", "No free lora slots")
        self.loaded[name] = AdapterReference(folder)
        self.told.append(("load", name))
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if self.failing:
            return _error(self.failing.pop(0), "InternalServerError", "engine is not ready")
        if not self.runtime_lora:
            return web.json_response({"detail": "Not Found"}, status=404)
        if self.loaded.pop(name, None) is None:
            return _error(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        self.told.append(("unload", name))
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        await asyncio.sleep(self.latency)
        name = body["model"]
        if name != "tiny" and name not in self.loaded:
            return _error(404, "NotFoundError", f"The model `{name}` does not exist.")
        params = {key: body[key] for key in ("max_tokens", "top_p", "stop") if key in body}
        asked = Request(
            body["messages"],
            {
                **params,
                "top_k": max(0, body.get("top_k", 0)),
                "temperature": body.get("temperature", 1.0) * self.temperature_scale,
            },
            seed=body.get("seed"),
            adapter=self.loaded.get(name),
        )
        key = json.dumps(body)
        if key not in self._kept:
            self._kept[key] = _reply(await self.lm.complete(asked), body)
        reply = deepcopy(self._kept[key])
        self.mangle(reply)
        return web.json_response(reply)


def _reply(made: Completion, body: dict[str, Any]) -> dict[str, Any]:
    assert made.usage is not None and made.token_ids is not None and made.logprobs is not None
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": made.text},
        "finish_reason": made.finish_reason,
        "logprobs": None,
    }
    if body.get("logprobs"):
        content = [{"token": "?", "logprob": value, "bytes": None, "top_logprobs": []} for value in made.logprobs]
        choice["logprobs"] = {"content": content}
    usage = {"prompt_tokens": made.usage.prompt_tokens, "completion_tokens": made.usage.completion_tokens}
    found: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
    if body.get("return_token_ids"):
        choice["token_ids"], found["prompt_token_ids"] = list(made.token_ids), list(made.prompt_token_ids or ())
    return {**found, "choices": [choice], "usage": usage}


def _error(status: int, kind: str, message: str) -> web.Response:
    said = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    return web.json_response(said, status=status)
