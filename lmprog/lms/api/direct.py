"""Servers at an address of one's own that speak OpenAI's protocol, such as vLLM's: asked with aiohttp, a thousand at once."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from lmprog.compiler import model_table, plan
from lmprog.lms.api.access import Access
from lmprog.lms.api.adapters import Adapters
from lmprog.lms.api.body import parameters
from lmprog.lms.api.failures import TryFailed, words_of
from lmprog.lms.api.reply import Pieces, cost, read
from lmprog.lms.lm import Completion, Request
from lmprog.lms.per_loop import PerLoop


class DirectRoute:
    """`POST {api_base}/chat/completions`."""

    def __init__(self, declared: plan.LM, access: Access) -> None:
        self.structured = True
        provider, _, self._model = declared.model.partition("/")
        self._more = {"return_token_ids": True, "logprobs": True} if provider == "hosted_vllm" else {}
        self._prices = model_table.limits(declared)
        self._server = Server(access)
        self.adapters = Adapters(declared, self._server) if provider == "hosted_vllm" else None

    async def ask(self, request: Request, structured: bool) -> Completion:
        """One try. Raises TryFailed."""
        if request.adapter is None or self.adapters is None:
            return await self._asked(self._model, request, structured)
        loaded = await self.adapters.loaded(request.adapter)
        try:
            return await self._asked(loaded.name, request, structured)
        except TryFailed as failed:
            if not loaded.is_missed(failed):
                raise
        self.adapters.forget(loaded)
        loaded = await self.adapters.loaded(request.adapter)
        return await self._asked(loaded.name, request, structured)

    async def _asked(self, model: str, request: Request, structured: bool) -> Completion:
        made = parameters(request, structured=structured, seeded=True)
        body = {"model": model, "messages": request.messages, **self._more, **made, **made.pop("extra_body", {})}
        async with self._server.post("/chat/completions", body) as response:
            if response.headers.get("Content-Type", "").startswith("text/event-stream"):
                reply = await self._streamed(response, request)
            else:
                reply = _json(response, await response.read())
                if request.on_text is not None and (text := read(reply, None).text):
                    request.on_text(text)
        return read(reply, cost(reply, self._prices))

    async def _streamed(self, response: aiohttp.ClientResponse, request: Request) -> dict[str, Any]:
        pieces = Pieces()
        rest = b""
        # Not by the reader's lines, whose length is limited: a piece may hold the ids of a long prompt.
        async for chunk in response.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not line.startswith(b"data:") or (data := line[5:].strip()) == b"[DONE]":
                    continue
                text = pieces.add(_piece(data))
                if text and request.on_text is not None:
                    request.on_text(text)
        if not pieces.ended:
            raise TryFailed("the stream broke off before the reply had ended", passing=True)
        return pieces.whole()


class Server:
    """The address, and what each request to it carries."""

    def __init__(self, access: Access) -> None:
        self._address, mark, query = (access.base or "").partition("?")
        self._query = mark + query
        self._proxy = _proxy(self._address)
        self._headers = {"Content-Type": "application/json", **access.headers}
        if access.key:
            self._headers.setdefault("Authorization", f"Bearer {access.key}")

    def post(self, path: str, body: Mapping[str, Any]) -> _Answer:
        """A context with the answer to a POST. Raises TryFailed for any status but 2xx, and where the server is not there."""
        return _Answer(self, path, json.dumps(body, ensure_ascii=False).encode(errors="surrogatepass"))

    async def _send(self, path: str, data: bytes) -> aiohttp.ClientResponse:
        url = f"{self._address.rstrip('/')}{path}{self._query}"
        session = await _session()
        return await session.post(url, data=data, headers=self._headers, proxy=self._proxy, allow_redirects=False)


class _Answer:
    """One exchange with a server; leaving it gives the connection back, or ends it where the answer was not read."""

    def __init__(self, server: Server, path: str, data: bytes) -> None:
        self._server, self._path, self._data = server, path, data

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            self._response = await self._server._send(self._path, self._data)
            if self._response.ok and self._response.status < 300:
                return self._response
            said = words_of(await self._response.text(errors="replace"))
        except aiohttp.InvalidURL:
            failed = TryFailed("its api_base is no address; write it as http://host:port/v1", passing=False)
        except aiohttp.ClientError as error:
            failed = TryFailed(str(error) or type(error).__name__, passing=True)
        else:
            status = self._response.status
            where = self._response.headers.get("Location") if status < 400 else None
            words = f"HTTP {status}: {said or self._response.reason or ''}"
            if where:
                words = f"HTTP {status}: it moved; write the new address ({where}) as api_base"
            failed = TryFailed.of_status(status, words, self._response.headers)
            self._response.release()
        raise failed from None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._response.release()
            return
        self._response.close()
        if isinstance(error, aiohttp.ClientError):
            raise TryFailed(str(error) or type(error).__name__, passing=True) from None


def _json(response: aiohttp.ClientResponse, body: bytes) -> Any:
    kind = response.headers.get("Content-Type", "application/json")
    if "json" not in kind:
        raise TryFailed(f"it answered with {kind}, not with JSON: {_start(body)}", passing=True)
    try:
        return json.loads(body)
    except ValueError:
        pass
    raise TryFailed(f"it answered with what is no JSON: {_start(body)}", passing=True)


def _start(body: bytes) -> str:
    """For a message; long enough that what is cut here, perhaps within a secret, is not shown."""
    return " ".join(body[:10_000].decode(errors="replace").split())


def _piece(data: bytes) -> Mapping[str, Any]:
    try:
        piece = json.loads(data)
    except ValueError:
        piece = None
    if not isinstance(piece, Mapping) or piece.get("error"):
        raise TryFailed(f"the stream broke off: {words_of(data.decode(errors='replace'))}", passing=True)
    return piece


def _proxy(base: str) -> str | None:
    """The proxy that the environment names for an address, as urllib, pip and the like take it."""
    address = urlsplit(base)
    if not address.hostname or urllib.request.proxy_bypass(address.hostname):
        return None
    return urllib.request.getproxies().get(address.scheme)


async def _opened() -> AsyncGenerator[aiohttp.ClientSession, None]:
    """A session that is closed with its event loop: a loop ends the generators that are left in it before it is closed."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        while True:
            yield session


_sessions = PerLoop(_opened)


async def _session() -> aiohttp.ClientSession:
    return await anext(_sessions.get())
