"""The server's ASGI application: its paths, the key that they need, and a log line for each request."""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import click
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmprog.serving.api_page import api_page
from lmprog.serving.chat import ChatAnswer, chat_input, model_of
from lmprog.serving.client_tools import WaitingTurns
from lmprog.serving.metrics import TYPE, ServerMetrics
from lmprog.serving.openapi import document
from lmprog.serving.origins import Origins
from lmprog.serving.refusals import Refused, failed, not_here
from lmprog.serving.request_log import Logged, RequestLog
from lmprog.serving.run_answer import RunAnswer
from lmprog.serving.run_feedback import feedback
from lmprog.serving.running import Endpoint, Running

OPEN = ("/health", "/ready")
"""Paths that need no key, since probes have none."""


def application(
    running: Running,
    *,
    key: str | None = None,
    hosts: frozenset[str] | None = None,
    origins: Sequence[str] = (),
    log: RequestLog | None = None,
    mcp: ASGIApp | None = None,
) -> ASGIApp:
    """Return the ASGI application that serves a program by the runs of `running`.

    `key` is the bearer key that requests need, but for `/health` and `/ready` (None: none), `hosts` the host names that
    requests may use (None: any), `origins` the origins whose web pages may call, beside the server's own (others get
    status 403), `log` the log of requests, which must be open (None: none is kept), and `mcp` the application that
    answers MCP clients at `/mcp` (None: none does). Each request is also counted, and printed as a line on standard
    error.
    """
    plan = running.program.plan
    described = document(plan, authorized=key is not None)

    async def about(request: Request) -> Response:
        return JSONResponse({
            "program": plan.name,
            "description": plan.description,
            "digest": plan.digest,
            "run": "POST /run",
            "feedback": "POST /runs/ID/feedback",
            "openapi": "/openapi.json",
        })  # fmt: skip

    async def openapi(request: Request) -> Response:
        return JSONResponse(described)

    async def models(request: Request) -> Response:
        found = [model_of(plan)] if chat_input(plan) is not None else []
        if (named := request.path_params.get("model")) is None:
            return JSONResponse({"object": "list", "data": found})
        if named not in [model["id"] for model in found]:
            return Refused("no_model").response
        return JSONResponse(found[0])

    async def metrics(request: Request) -> Response:
        return Response(running.metrics.text(), media_type=TYPE)

    async def docs(request: Request) -> Response:
        return HTMLResponse(api_page(plan, str(request.base_url).rstrip("/"), key is not None))

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        loaded = running.ready.is_set()
        return JSONResponse({"ready": loaded}, 200 if loaded else 503)

    routes = [
        Route("/", about),
        Route("/run", Endpoint(running, partial(RunAnswer, plan)), methods=["POST"]),
        Route("/runs/{id}/feedback", partial(feedback, running), methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{model}", models),
        Route("/v1/chat/completions", Endpoint(running, partial(ChatAnswer, plan, WaitingTurns())), methods=["POST"]),
        *([Route("/mcp", mcp)] if mcp is not None else []),
        Route("/metrics", metrics),
        Route("/docs", docs),
        Route("/health", health),
        Route("/ready", ready),
        Route("/openapi.json", openapi),
    ]
    middleware = [Middleware(AccessLog, metrics=running.metrics, paths=frozenset(route.path for route in routes))]
    if log is not None:
        middleware.append(Middleware(Logged, log=log))
    middleware.append(Middleware(Origins, hosts=hosts, origins=origins))
    if origins:
        headers = ["Authorization", "Content-Type"]
        middleware.append(Middleware(CORSMiddleware, allow_origins=origins, allow_headers=headers))
    if key is not None:
        middleware.append(Middleware(Bearer, key=key))
    return Starlette(
        routes=routes, middleware=middleware, exception_handlers={HTTPException: not_here, Exception: failed}
    )


class Bearer:
    """ASGI middleware that answers HTTP requests without the bearer key with status 401, but for the paths of OPEN
    (`/health` and `/ready`)."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self._wanted = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._wanted):
                await Refused("unauthorized").response(scope, receive, send)
                return
        await self.app(scope, receive, send)


class AccessLog:
    """ASGI middleware that prints a line on standard error for each HTTP request that has ended (method, path as it
    came, status and milliseconds, without its query and contents), and counts it in `metrics`: under its path where
    that is one of `paths`, else under `other`. The status is `-` where no response was begun."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, paths: frozenset[str]) -> None:
        self.app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), "-"

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            took = time.perf_counter() - started
            # Other paths are whatever clients ask for, and would be counted without end.
            self._metrics.answered(scope["path"] if scope["path"] in self._paths else "other", status, took)
            # The path as it came, still escaped: one request is one line, whatever it asks for.
            path: Any = scope.get("raw_path") or b"-"
            click.echo(f"{scope['method']} {path.decode('ascii', 'replace')} {status} {1000 * took:.0f} ms", err=True)
