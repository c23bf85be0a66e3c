"""A server of chat completions that answers as a test says."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.server_in_thread import ServerInThread

DIRECT, LITELLM = "openai/x", "litellm_proxy/x"
"""A model that is asked directly at an `api_base`, and one that litellm asks there."""
SPEC = """
    lmprog: 1
    inputs: {text: str}
    lms:
      remote:
        model: MODEL
        api_base: "${{ env.TEST_API_BASE }}"
        api_key: "${{ env.TEST_KEY }}"
        limits: {timeout: 20}
    modules:
      ask: {lm: remote, inputs: {text: str}, outputs: {reply: str}, instructions: Answer.}
"""
KEY = "sk-test-0123456789abcdef"


@dataclass
class Asked:
    path: str
    body: dict[str, Any]
    headers: Mapping[str, str]
    time: float


class Server(ServerInThread):
    """Runs in a thread. `answer(asked)`, which may be async, gives a text, the body of a reply, or a web.Response."""

    def __init__(self) -> None:
        self.answer: Callable[[Asked], Any] = lambda asked: "ok"
        self.asked: list[Asked] = []
        self.active = self.most_active = 0
        self.begin()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.path, await request.json(), request.headers, time.monotonic())
        self.asked.append(asked)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            found = self.answer(asked)
            if isinstance(found, Awaitable):
                found = await found
            if callable(found):
                return await found(request)
        finally:
            self.active -= 1
        if isinstance(found, str):
            found = reply(found)
        return web.json_response(found) if isinstance(found, dict) else found


def reply(text: str | None, **more: Any) -> dict[str, Any]:
    """A whole reply; `more` are further fields of its choice."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}
    usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": usage}


def streamed(pieces: list[Any], *, cut: bool = False) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A reply in pieces: each a text, a delta, or a whole event; cut before its end where asked."""

    async def send(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)

        async def event(data: Any) -> None:
            await response.write(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode())

        head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "x"}
        for piece in pieces:
            delta = {"content": piece} if isinstance(piece, str) else piece
            whole = "choices" in delta
            choices = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            await event({**head, **(delta if whole else choices)})
        if cut:
            request.transport.close()  # type: ignore[union-attr]
            return response
        reason = "tool_calls" if any(isinstance(piece, dict) and "tool_calls" in piece for piece in pieces) else "stop"
        await event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        await event({**head, "choices": [], "usage": reply("")["usage"]})
        await event("[DONE]")
        return response

    return send


def failing_status(status: int) -> web.Response:
    return web.json_response({"error": {"message": "sorry"}}, status=status)
