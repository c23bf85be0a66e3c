"""A stand-in for a provider that fine-tunes: OpenAI's protocol of files, jobs, events, models and chats, errors included.

Its models are tables: the base model always says the same, and a tuned one what the rows of its job mostly said after the first
word of the user's turn. Words and statuses of refusals are those that OpenAI's API documents or was seen to answer.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.server_in_thread import ServerInThread

BASE = "gpt-4.1-mini-2025-04-14"
STATUSES = ("validating_files", "queued", "running")
"""The statuses of a job that goes well, one for each look at it, before it has succeeded."""


class FineTuningServer(ServerInThread):
    """Serves one base model. What is set on it takes effect with the next request."""

    def __init__(self) -> None:
        self.says = "fruit"
        self.failing: list[tuple[str, int]] = []
        """The next failures: each the beginning of a method and path, and the status, or 0 for a connection that is cut after
        the request has had its effect."""
        self.hanging: set[str] = set()
        """Beginnings of methods and paths whose requests get no answer, after they have had their effect."""
        self.refusing: set[str] = set()
        """The same, before they have any effect."""
        self.stays = False
        """True: jobs stay at their last status before success."""
        self.outcome: dict[str, Any] = {"status": "succeeded"}
        self.unready = 0
        """Looks for a tuned model that find none."""
        self.file_statuses: list[str] = []
        """The statuses of a file at the next looks; processed afterwards."""
        self.files: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.tuned: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        """Methods and paths of the requests for files, jobs and models."""
        self.headers: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        """The bodies of jobs as they were asked for."""
        self.chats: Counter[str] = Counter()
        self.arrived = threading.Event()
        """Set when a request of `hanging` or `refusing` has come."""
        self.begin()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64_000_000)
        for prefix in ("/v1", "/openai"):
            app.router.add_post(f"{prefix}/files", self._kept(self._upload))
            app.router.add_get(f"{prefix}/files", self._kept(self._list_files))
            app.router.add_get(f"{prefix}/files/{{id}}", self._kept(self._file))
            app.router.add_post(f"{prefix}/fine_tuning/jobs", self._kept(self._create))
            app.router.add_get(f"{prefix}/fine_tuning/jobs", self._kept(self._list_jobs))
            app.router.add_get(f"{prefix}/fine_tuning/jobs/{{id}}", self._kept(self._job))
            app.router.add_get(f"{prefix}/fine_tuning/jobs/{{id}}/events", self._kept(self._events))
            app.router.add_post(f"{prefix}/fine_tuning/jobs/{{id}}/cancel", self._kept(self._cancel))
            app.router.add_get(f"{prefix}/models/{{id}}", self._kept(self._model))
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/openai/deployments/{model}/chat/completions", self._chat)
        return app

    def _kept(self, handle: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def handled(request: web.Request) -> web.StreamResponse:
            place = f"{request.method} {request.path.removeprefix('/v1').removeprefix('/openai')}"
            self.asked.append(place)
            self.headers.append(dict(request.headers))
            if any(place.startswith(each) for each in self.refusing):
                self.arrived.set()
                await asyncio.sleep(3600)
            if self.failing and place.startswith(self.failing[0][0]) and self.failing[0][1]:
                status = self.failing.pop(0)[1]
                words = "Rate limit reached for requests" if status == 429 else "The server had an error"
                return _error(status, words, headers={"retry-after": "0"} if status == 429 else {})
            found = await handle(request)
            if self.failing and place.startswith(self.failing[0][0]):
                self.failing.pop(0)
                assert request.transport is not None
                request.transport.close()
            if any(place.startswith(each) for each in self.hanging):
                self.arrived.set()
                await asyncio.sleep(3600)
            return found  # type: ignore[no-any-return]

        return handled

    # files

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        assert form["purpose"] == "fine-tune"
        id = f"file-{len(self.files)}"
        self.files[id] = {"id": id, "object": "file", "filename": file.filename, "content": file.file.read()}
        return web.json_response(self._shown(id))

    def _shown(self, id: str) -> dict[str, Any]:
        status = self.file_statuses.pop(0) if self.file_statuses else "processed"
        details = {"status_details": "line 3 is no JSON"} if status == "error" else {}
        return {**{key: self.files[id][key] for key in ("id", "object", "filename")}, "status": status, **details}

    async def _list_files(self, request: web.Request) -> web.Response:
        assert request.query["purpose"] == "fine-tune"
        return _page([self._shown(id) for id in reversed(self.files)], request)

    async def _file(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        return web.json_response(self._shown(id)) if id in self.files else _error(404, f"No such File object: {id}")

    # jobs

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        file = body["training_file"]
        if file not in self.files:
            return _error(400, f"No such File object: {file}")
        if body["model"] != BASE:
            return _error(400, f"Model {body['model']} is not available for fine-tuning or does not exist.")
        id = f"ftjob-{len(self.jobs)}"
        self.jobs[id] = {
            "id": id,
            "object": "fine_tuning.job",
            "training_file": file,
            "looks": 0,
            "epochs": _epochs(body),
        }
        return web.json_response(self._state(id))

    def _state(self, id: str) -> dict[str, Any]:
        job = self.jobs[id]
        shown = {key: job[key] for key in ("id", "object", "training_file")}
        wrong = self._wrong(job["training_file"]) if job["looks"] else None
        if job.get("cancelled"):
            return {**shown, "status": "cancelled", "fine_tuned_model": None}
        if wrong is not None:
            return {**shown, "status": "failed", "fine_tuned_model": None, "error": wrong}
        if job["looks"] < len(STATUSES) or self.stays:
            return {**shown, "status": STATUSES[min(job["looks"], len(STATUSES) - 1)], "fine_tuned_model": None}
        if self.outcome["status"] != "succeeded":
            return {**shown, "fine_tuned_model": None, **self.outcome}
        name = f"ft:{BASE}:acme::{id.removeprefix('ftjob-')}"
        self.tuned.setdefault(name, self._learnt(job["training_file"]))
        tokens = job["epochs"] * sum(
            len(line) // 4 for line in self.files[job["training_file"]]["content"].splitlines()
        )
        return {**shown, "fine_tuned_model": name, "trained_tokens": tokens, **self.outcome}

    def _wrong(self, file: str) -> dict[str, str] | None:
        """Return the provider's finding on a file, or None: it checks the file when the job has begun."""
        rows = self.rows(file)
        if len(rows) < 10:
            words = f"Training file has {len(rows)} example(s), but must have at least 10 examples"
            return {"code": "invalid_n_examples", "message": words, "param": "training_file"}
        for number, row in enumerate(rows, 1):
            last = row["messages"][-1]
            if last["role"] != "assistant" or not last["content"]:
                words = f"Invalid file format. Line {number}: the last message must be from the assistant"
                return {"code": "invalid_training_file", "message": words, "param": "training_file"}
        return None

    def rows(self, file: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files[file]["content"].splitlines()]

    def _learnt(self, file: str) -> dict[str, str]:
        said: dict[str, Counter[str]] = {}
        for row in self.rows(file):
            said.setdefault(_word(row["messages"]), Counter())[row["messages"][-1]["content"]] += 1
        return {word: found.most_common(1)[0][0] for word, found in said.items()}

    async def _list_jobs(self, request: web.Request) -> web.Response:
        return _page([self._state(id) for id in reversed(self.jobs)], request)

    async def _job(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        if id not in self.jobs:
            return _error(404, f"Could not find fine tune: {id}")
        self.jobs[id]["looks"] += 1
        return web.json_response(self._state(id))

    async def _events(self, request: web.Request) -> web.Response:
        looks = self.jobs[request.match_info["id"]]["looks"]
        events = [{"id": f"ftevent-{n}", "message": f"Step {n}: training loss={1 / (n + 1):.2f}"} for n in range(looks)]
        return _page(list(reversed(events)), request)

    async def _cancel(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        self.jobs[id]["cancelled"] = True
        return web.json_response(self._state(id))

    # models

    async def _model(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        if self.unready:
            self.unready -= 1
            return _error(404, f"The model '{id}' does not exist")
        return web.json_response({"id": id}) if id in self.tuned else _error(404, f"The model '{id}' does not exist")

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = request.match_info.get("model") or body["model"]
        self.chats[name] += 1
        if name != BASE and name not in self.tuned and not name.startswith("deployed"):
            return _error(404, f"The model `{name}` does not exist or you do not have access to it.")
        text = self.tuned.get(name, {}).get(_word(body["messages"]), self.says)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}
        whole = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": name,
            "choices": [choice],
            "usage": usage,
        }
        return web.json_response(whole)


def _word(messages: list[dict[str, Any]]) -> str:
    turn = next(message["content"] for message in reversed(messages) if message["role"] == "user")
    return str(turn).split()[0]


def _epochs(body: dict[str, Any]) -> int:
    numbers = body.get("hyperparameters") or body["method"]["supervised"]["hyperparameters"]
    return int(numbers["n_epochs"])


def _page(entries: list[dict[str, Any]], request: web.Request) -> web.Response:
    """Two entries a page, so that what is sought may stand on a later one."""
    after = request.query.get("after")
    ids = [entry["id"] for entry in entries]
    first = ids.index(after) + 1 if after in ids else 0
    return web.json_response(
        {"object": "list", "data": entries[first : first + 2], "has_more": len(entries) > first + 2}
    )


def _error(status: int, words: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}}
    return web.json_response(body, status=status, headers=headers)
