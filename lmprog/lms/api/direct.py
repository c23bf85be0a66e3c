"""OpenAI, and servers that speak its protocol, such as vLLM's: asked with aiohttp, a thousand at once."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from lmprog.bodies import TooLong, within
from lmprog.compiler import model_table, plan
from lmprog.errors import UsageError
from lmprog.lms.api.access import Access
from lmprog.lms.api.adapters import Adapters
from lmprog.lms.api.body import parameters
from lmprog.lms.api.event_stream import events_of
from lmprog.lms.api.failures import TryFailed, too_long, words_of
from lmprog.lms.api.reply import Pieces, cost, read
from lmprog.lms.lm import Completion, Request
from lmprog.lms.per_loop import PerLoop
from lmprog.wire import loads

log = logging.getLogger(__name__)


class DirectRoute:
    """`POST {api_base}/chat/completions`."""

    def __init__(self, declared: plan.LM, access: Access) -> None:
        self.structured = True
        provider, _, self._model = declared.model.partition("/")
        self._id, self._longest = declared.id, int(declared.limits.reply_mb * 1e6)
        self._refused: set[str] = set()
        """Fields that lmprog adds by itself and this server does not take."""
        self._more = {"return_token_ids": True, "logprobs": True} if provider == "hosted_vllm" else {}
        self._prices = model_table.limits(declared)
        self._at_openai = provider == "openai" and declared.api_base is None
        self._limit: str | None = None
        """What the model calls the longest reply, where it refuses the name that the spec has for it."""
        self._server = Server(access)
        self.adapters = Adapters(declared, self._server) if provider == "hosted_vllm" and access.base else None

    async def ask(self, request: Request, structured: bool) -> Completion:
        """One try. Raises TryFailed, and UsageError where no address is known."""
        if not self._server.known:
            fix = f"write lms.{self._id}.api_base, or set HOSTED_VLLM_API_BASE in the environment"
            raise UsageError(f"the LM {self._id!r} has no address of its server; {fix}")
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
        own = {name: value for name, value in {**self._more, **made}.items() if name not in self._refused}
        if self._limit is not None:
            own = {self._limit if name in LIMITS else name: value for name, value in own.items()}
        body = {"model": model, "messages": request.messages, **own, **own.pop("extra_body", {})}
        try:
            async with self._server.post("/chat/completions", body) as response:
                if response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    reply = await self._streamed(response, request)
                else:
                    reply = _json(response, b"".join([chunk async for chunk in self._chunks(response)]))
                    if request.on_text is not None and (text := read(reply, None).text):
                        request.on_text(text)
        except TryFailed as failed:
            added = {*self._more, *made} - {*request.params}
            unknown = [name for name in DISPENSABLE if name in added - self._refused and failed.refuses(name)]
            if not unknown:
                # Which name OpenAI takes depends on the model. A server of one's own has the right one written in the spec.
                if not self._at_openai or failed.limit is None or self._limit is not None:
                    raise
                self._limit = failed.limit
                return await self._asked(model, request, structured)
        else:
            return read(reply, cost(reply, self._prices))
        self._refused |= {*unknown}
        log.warning("%s: the server does not take %s; lmprog asks without", self._id, ", ".join(unknown))
        return await self._asked(model, request, structured)

    async def _streamed(self, response: aiohttp.ClientResponse, request: Request) -> dict[str, Any]:
        pieces = Pieces()
        async for data, value in events_of(self._chunks(response)):
            if data == b"[DONE]":
                # Some servers never say why a reply ends; what they sent is whole all the same.
                pieces.ended = pieces.ended or pieces.any
                continue
            text = pieces.add(_piece(data, value))
            if text and request.on_text is not None:
                request.on_text(text)
        if not pieces.ended:
            raise TryFailed("the stream broke off before the reply had ended", passing=True)
        return pieces.whole()

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield the body, decoded, as it comes. Raises TryFailed where it is longer than `limits.reply_mb` allows."""
        try:
            async for chunk in within(response.content.iter_any(), self._longest):
                yield chunk
        except TooLong:
            raise too_long(self._id, self._longest) from None


LIMITS = ("max_tokens", "max_completion_tokens")
DISPENSABLE = ("stream_options", "return_token_ids", "logprobs", "seed")
"""Fields that lmprog adds to a request by itself and can do without, where a server knows them not."""


class Server:
    """The address, and what each request to it carries."""

    def __init__(self, access: Access) -> None:
        self.known = access.base is not None
        self._address, mark, query = (access.base or "").partition("?")
        self._query = mark + query
        self._proxy = _proxy(self._address)
        self._headers = {"Content-Type": "application/json", **access.headers}
        if access.key:
            self._headers.setdefault("Authorization", f"Bearer {access.key}")

    def post(self, path: str, body: Mapping[str, Any]) -> _Answer:
        """A context with the answer to a POST. Raises TryFailed for any status but 2xx, and where the server is not there."""
        # Half a surrogate pair, which UTF-8 has not, goes as its escape.
        return _Answer(self, path, json.dumps(body, ensure_ascii=False).encode(errors="backslashreplace"))

    async def _send(self, path: str, data: bytes) -> aiohttp.ClientResponse:
        url = f"{self._address.rstrip('/')}{path}{self._query}"
        session = await _session()
        return await session.post(url, data=data, headers=self._headers, proxy=self._proxy, allow_redirects=False)

    def unreached(self, error: Exception) -> TryFailed:
        """Return the failure of a request that had no answer; a proxy that is the reason is named."""
        words = str(error) or type(error).__name__
        if self._proxy is not None and not self._proxy.startswith(("http://", "https://")):
            kind = urlsplit(self._proxy).scheme
            return TryFailed(
                f"the environment names a proxy of the kind {kind}, and only http proxies are supported",
                passing=False,
                fix="set http_proxy and https_proxy to an http:// address, or name this server in no_proxy",
            )
        if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
            address = urlsplit(self._proxy or "")
            return TryFailed(
                f"the proxy {address.scheme}://{address.hostname}:{address.port} did not pass the request on: {words}",
                passing=True,
                fix="correct http_proxy and https_proxy in the environment, or name this server in no_proxy",
            )
        if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
            return TryFailed("its api_base is no address; write it as http://host:port/v1", passing=False)
        if isinstance(error, aiohttp.ClientConnectorSSLError | aiohttp.ClientConnectorCertificateError):
            return TryFailed(words, passing=False, fix="write http:// in api_base where the server has no TLS")
        return TryFailed(words, passing=isinstance(error, aiohttp.ClientError))


class _Answer:
    """One exchange with a server; leaving it gives the connection back, or ends it where the answer was not read."""

    def __init__(self, server: Server, path: str, data: bytes) -> None:
        self._server, self._path, self._data = server, path, data

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            self._response = await self._server._send(self._path, self._data)
            if self._response.ok and self._response.status < 300:
                return self._response
            body = (await _start_of(self._response)).decode(errors="replace")
            said = words_of(body)
        except (aiohttp.ClientError, ValueError) as error:
            failed = self._server.unreached(error)
        else:
            status = self._response.status
            where = self._response.headers.get("Location") if status < 400 else None
            words = f"HTTP {status}: {said or self._response.reason or ''}"
            if where:
                words = f"HTTP {status}: it moved; write the new address ({where}) as api_base"
            failed = TryFailed.of_status(status, words, self._response.headers, body)
            self._response.release()
        raise failed from None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._response.release()
            return
        self._response.close()
        if isinstance(error, aiohttp.ClientError | ValueError):
            raise TryFailed(str(error) or type(error).__name__, passing=True) from None


def _json(response: aiohttp.ClientResponse, body: bytes) -> Any:
    kind = response.headers.get("Content-Type", "application/json")
    if "json" not in kind:
        raise TryFailed(f"it answered with {kind}, not with JSON: {_start(body)}", passing=True)
    try:
        return loads(body)
    except ValueError:
        pass
    raise TryFailed(f"it answered with what is no JSON: {_start(body)}", passing=True)


LONGEST_ERROR = 100_000
"""Bytes of a failure's body that are read for its words."""


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a failure, or the start of a long one, whose connection then ends."""
    body = bytearray()
    try:
        async for chunk in within(response.content.iter_any(), LONGEST_ERROR):
            body += chunk
    except TooLong:
        response.close()
    return bytes(body)


def _start(body: bytes) -> str:
    """For a message; long enough that what is cut here, perhaps within a secret, is not shown."""
    return " ".join(body[:10_000].decode(errors="replace").split())


def _piece(data: bytes, value: Any) -> Mapping[str, Any]:
    """Return a piece of a reply. Raises TryFailed where the event holds none, or an error."""
    if value is None:  # says nothing
        return {}
    if not isinstance(value, Mapping) or value.get("error"):
        raise TryFailed(f"the stream broke off: {words_of(data.decode(errors='replace'))}", passing=True)
    return value


def _proxy(base: str) -> str | None:
    """Return the proxy that the environment names for an address, as urllib, pip and the like take it."""
    address = urlsplit(base)
    if not address.hostname or urllib.request.proxy_bypass(address.hostname):
        return None
    proxy = urllib.request.getproxies().get(address.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None


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
