"""HTTP requests to an OpenAI-like server: address, headers, proxy, and the conversion of error responses to failures."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from lmprog.aio.per_loop import PerLoop
from lmprog.boundary.bodies import TooLong, within
from lmprog.boundary.wire import loads
from lmprog.lms.api.access import Access
from lmprog.lms.api.failures import TryFailed, words_of

log = logging.getLogger(__name__)


class Server:
    """A server at an address, with the headers and the proxy of each request to it."""

    def __init__(self, access: Access) -> None:
        self.known = access.base is not None
        self._address, mark, query = (access.base or "").partition("?")
        self._query = mark + query
        self._proxy = _proxy(self._address)
        self._headers = {"Content-Type": "application/json", **access.headers}
        if access.key:
            self._headers.setdefault("Authorization", f"Bearer {access.key}")

    def post(self, path: str, body: Mapping[str, Any]) -> _Answer:
        """Return an async context manager that sends a POST with a JSON body to `path` at the server, and yields the
        response.

        Entering it raises TryFailed for a status other than 2xx, and where the server cannot be reached; an error of
        aiohttp or a ValueError inside the block, as of a connection that breaks, becomes a TryFailed too. Other errors
        pass, such as TimeoutError: there is no time limit here.
        """
        # Half a surrogate pair, which UTF-8 has not, goes as its escape.
        return _Answer(self, path, json.dumps(body, ensure_ascii=False).encode(errors="backslashreplace"))

    def upload(self, path: str, fields: Mapping[str, str], content: bytes, name: str = "requests.jsonl") -> _Answer:
        """Return an async context manager that sends a form with `fields` and, as its field `file`, a file (`content`,
        called `name`) to `path`, and yields the response; failures become TryFailed as in `post`.
        """
        form = aiohttp.FormData(dict(fields))
        form.add_field("file", content, filename=name, content_type="application/jsonl")
        return _Answer(self, path, form)

    def get(self, path: str) -> _Answer:
        """Return an async context manager that sends a GET to `path`, and yields the response; failures become TryFailed as
        in `post`.
        """
        return _Answer(self, path, None)

    async def _send(self, path: str, data: bytes | aiohttp.FormData | None) -> aiohttp.ClientResponse:
        path, mark, query = path.partition("?")
        queries = "&".join(part for part in (self._query.removeprefix("?"), query) if part)
        url = f"{self._address.rstrip('/')}{path}{'?' if mark or self._query else ''}{queries}"
        session = await _session()
        method = "GET" if data is None else "POST"
        headers = self._headers
        if isinstance(data, aiohttp.FormData):  # it has a type of its own, with the mark between its parts
            headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        return await session.request(method, url, data=data, headers=headers, proxy=self._proxy, allow_redirects=False)

    def unreached(self, error: Exception) -> TryFailed:
        """Return the failure for a request that got no response, because of `error`: `passing` for most failures of a
        connection, but not for a wrong address, TLS that does not fit, or an unsupported proxy. A proxy that is the cause
        is named.
        """
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
    """An exchange with a server; leaving its context releases the connection, or closes it with an unread answer."""

    def __init__(self, server: Server, path: str, data: bytes | aiohttp.FormData | None) -> None:
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


MAX_ERROR_BYTES = 100_000
"""Bytes of a failure's body that are read for its words."""


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of an error response, or the first MAX_ERROR_BYTES (100,000) of a longer one, whose connection is
    then closed.
    """
    body = bytearray()
    try:
        async for chunk in within(response.content.iter_any(), MAX_ERROR_BYTES):
            body += chunk
    except TooLong:
        response.close()
    return bytes(body)


def beginning_of(body: bytes) -> str:
    """Return the first 10,000 bytes of a response body as text on one line, for an error message.

    Nothing is hidden in it: the caller removes secrets, and shortens it only after that.
    """
    return " ".join(body[:10_000].decode(errors="replace").split())


def json_of(response: aiohttp.ClientResponse, body: bytes) -> Any:
    """Return the JSON in the body of a response. Raises TryFailed, with `passing`, where its Content-Type is not JSON or
    the body cannot be read as JSON.
    """
    kind = response.headers.get("Content-Type", "application/json")
    if "json" not in kind:
        raise TryFailed(f"it answered with {kind}, not with JSON: {beginning_of(body)}", passing=True)
    try:
        return loads(body)
    except ValueError:
        pass
    raise TryFailed(f"it answered with what is no JSON: {beginning_of(body)}", passing=True)


def _proxy(base: str) -> str | None:
    """Return the proxy that the environment names for an address (http_proxy and the like), as urllib takes it; None where
    there is none, or no_proxy has the host.
    """
    address = urlsplit(base)
    if not address.hostname or urllib.request.proxy_bypass(address.hostname):
        return None
    proxy = urllib.request.getproxies().get(address.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None


async def _opened() -> AsyncGenerator[aiohttp.ClientSession, None]:
    """Yield a session that is closed with its event loop, which ends its remaining generators before it closes."""
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
