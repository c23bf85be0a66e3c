"""A stand-in for OpenAI's files and batches: its protocol, with batches that expire, fail, and answer in part."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.server_in_thread import ServerInThread
from tests.unit.lmprog.lms.api.server_for_api import reply

Line = tuple[int, dict[str, Any]] | str
"""The status and body of a request's answer, or the code of its error."""


class BatchServer(ServerInThread):
    """Answers with what `answer` says of a request's body; a batch ends as `ends` says, one after the other, or completed."""

    cancels = False

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any]], Line] = lambda body: (200, reply(body["messages"][-1]["content"]))
        self.ends: list[str] = []
        self.failing: list[int] = []
        """Statuses that the next requests get."""
        self.looks = 1
        """The number of looks at a batch before it has ended."""
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.begin()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._first])
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._make)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._look)
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The requests of all batches, in their order."""
        return [
            json.loads(line)
            for batch in self.batches.values()
            for line in self.files[batch["input_file_id"]].decode().splitlines()
        ]

    @web.middleware
    async def _first(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        assert request.headers["Authorization"].startswith("Bearer ")
        if self.failing:
            return web.json_response({"error": {"message": "overloaded"}}, status=self.failing.pop(0))
        found: web.StreamResponse = await handler(request)
        return found

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        id = f"file-{len(self.files)}"
        self.files[id] = form["file"].file.read()  # type: ignore[union-attr]
        return web.json_response({"id": id, "object": "file"})

    async def _make(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["endpoint"] == "/v1/chat/completions" and asked["completion_window"] == "24h"
        id = f"batch_{len(self.batches)}"
        self.batches[id] = {**asked, "id": id, "status": "validating", "looks": 0}
        return web.json_response(self.batches[id])

    async def _list(self, request: web.Request) -> web.Response:
        """One a page, the newest first."""
        ids = list(self.batches)[::-1]
        after = request.query.get("after")
        rest = ids[ids.index(after) + 1 :] if after else ids
        return web.json_response({"data": [self.batches[id] for id in rest[:1]], "has_more": len(rest) > 1})

    async def _look(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch["looks"] += 1
        if batch["status"] in ("validating", "in_progress"):
            batch["status"] = "in_progress"
            if batch["looks"] >= self.looks:
                self._end(batch, self.ends.pop(0) if self.ends else "completed")
        return web.json_response(batch)

    def _end(self, batch: dict[str, Any], status: str) -> None:
        batch["status"] = status
        if status == "failed":
            batch["errors"] = {"data": [{"code": "invalid", "message": "the file is too long", "line": 1}]}
            return
        asked = [json.loads(line) for line in self.files[batch["input_file_id"]].decode().splitlines()]
        done = asked[: len(asked) // 2] if status == "expired" else [] if status == "cancelled" else asked
        out, errors = [], []
        for entry in asked:
            said = self.answer(entry["body"]) if entry in done else "batch_expired"
            line: dict[str, Any] = {"id": "1", "custom_id": entry["custom_id"], "response": None, "error": None}
            if isinstance(said, str):
                line["error"] = {"code": said, "message": "This request could not be executed in time."}
            else:
                line["response"] = {"status_code": said[0], "request_id": "1", "body": said[1]}
            (out if not isinstance(said, str) and said[0] == 200 else errors).append(json.dumps(line))
        for key, lines in (("output_file_id", out[::-1]), ("error_file_id", errors)):
            if lines:
                batch[key] = f"file-{len(self.files)}"
                self.files[batch[key]] = "\n".join(lines).encode()
        batch["request_counts"] = {"total": len(asked), "completed": len(out), "failed": len(errors)}

    async def _chat(self, request: web.Request) -> web.Response:
        said = self.answer(await request.json())
        assert not isinstance(said, str)
        return web.json_response(said[1], status=said[0])

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])
