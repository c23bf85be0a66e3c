"""HTTP tools: a request to an address with placeholders, or an operation of an OpenAPI description.

A read is tried again where the server fails or is crowded, or the connection fails, as long as the tool's timeout allows; if no
try succeeds, it is an outage. What may change something (`effects: write`) is sent once: a request without an answer may have
been carried out. Any other answer that is no success is the tool's failure.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from lmprog.blame import passing
from lmprog.boundary.bodies import TooLong, within
from lmprog.boundary.wire import retry_after
from lmprog.compiler.plan import Tool
from lmprog.compiler.tools.openapi import WHOLE_BODY, Operation
from lmprog.errors import UsageError
from lmprog.tools.connections import Connections
from lmprog.tools.environment import evaluated, without_secrets
from lmprog.tools.results import first_line, most_bytes, of_text, too_long
from lmprog.tools.tool import ToolFailed, ToolUnreachable, timeout_of

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

TRIES = 4
FIRST_WAIT = 0.5
"""Seconds before the second try; each further wait is twice as long."""
CONNECT_TIMEOUT = 30.0
"""Seconds within which a connection is made, or it counts as failed."""
MAX_REDIRECTS = 5


class Draft:
    """The parts of one HTTP request (method, address, query, headers, body), filled in from the arguments of a tool call
    and the tool's defaults; made for each call.

    Making it raises ToolFailed for an argument that cannot stand in an address, UsageError for a variable of the
    environment that is not set or an argument in the address's host.
    """

    def __init__(self, tool: Tool, arguments: Mapping[str, Any]) -> None:
        settings = evaluated(tool, tool.settings)
        operation: Operation | None = settings.get("operation")
        defaults = {name: field.default for name, field in tool.parameters.items() if field.default is not None}
        given = {**defaults, **arguments}
        self.method: str = operation.method if operation else settings.get("method", "GET")
        self.headers: dict[str, str] = {name: str(value) for name, value in settings.get("headers", {}).items()}
        self.query: list[tuple[str, str]] = []
        body: dict[str, Any] = {}
        url = settings.get("url")
        address = str(url if operation is None else url.rstrip("/") + operation.path if url else operation.url)
        places = set(re.findall(r"{([^{}]*)}", address))
        if places & set(re.findall(r"{([^{}]*)}", urlsplit(address).netloc)):
            raise UsageError(f"the tool {tool.id!r}: an argument may stand in the path of url, not in its host or port")
        elsewhere = "query" if self.method in ("GET", "HEAD", "DELETE") else "body"
        for name, value in given.items():
            part, name = (
                operation.places.get(name, ("body", name))
                if operation
                else ("path" if name in places else elsewhere, name)
            )
            if part == "body":
                body[name] = value
            elif part == "path":
                address = address.replace(f"{{{name}}}", _in_path(tool, name, value))
            elif value is None:
                continue
            elif part == "header":
                self.headers[name] = _text(value)
            elif part == "cookie":
                self.headers["Cookie"] = "; ".join(
                    [*filter(None, [self.headers.get("Cookie")]), f"{name}={quote(_text(value), safe='')}"]
                )
            else:
                self.query += [(name, _text(item)) for item in (value if isinstance(value, list) else [value])]
        if any(unquote(part) in (".", "..") for part in urlsplit(address).path.split("/")):
            raise ToolFailed(f"{tool.id}: its arguments make the path hold `.` or `..`, which names another place")
        self.url = address
        self.body: Any = body[WHOLE_BODY] if operation and operation.whole_body and WHOLE_BODY in body else body
        self.has_body = bool(body)


def http_tool(tool: Tool, connections: Connections) -> Callable[..., Awaitable[Any]]:
    """Return an HTTP tool as an async function that takes its arguments by name and returns its result. The function
    raises ToolFailed for a refusal, and ToolUnreachable where no try reaches the server or it is overloaded.

    Raises UsageError where the address of its server is unknown, or an environment variable is missing. `connections`
    holds its connection to the server, which equal tools share.
    """
    import aiohttp
    from yarl import URL

    hidden = without_secrets(tool)
    operation: Operation | None = tool.settings.get("operation")
    if operation is not None and operation.url is None and "url" not in tool.settings:
        said = "its OpenAPI description names no server by a whole address"
        raise UsageError(f"the tool {tool.id!r}: {said}; add url: with the server's address to `http`")

    def opening() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(trust_env=True, cookie_jar=aiohttp.DummyCookieJar())

    async def once(draft: Draft, left: float) -> tuple[int, Mapping[str, str], str]:
        session = await connections.get("http", opening)
        # The declared headers are for this server: a read that carries none may be sent on to another.
        follow = draft.method in ("GET", "HEAD") and not draft.headers
        address = URL(draft.url, encoded=True).extend_query(draft.query)
        for _ in range(MAX_REDIRECTS):
            async with session.request(
                draft.method,
                address,
                headers={"Accept": "application/json, text/*;q=0.9, */*;q=0.5", **draft.headers},
                json=draft.body if draft.has_body else None,
                allow_redirects=False,
                # A server that cannot be reached is an outage, one that does not answer is not: so connecting ends first.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_TIMEOUT, 0.9 * left)),
            ) as reply:
                where = reply.headers.get("Location") if 300 <= reply.status < 400 else None
                if not follow or where is None:
                    return reply.status, reply.headers, await _text_of(tool, reply)
            address = await _next(tool, address, where)
        raise ToolFailed(f"{tool.id}: the server redirects more than {MAX_REDIRECTS} times")

    async def call(**arguments: Any) -> Any:
        try:
            draft = Draft(tool, arguments)
        except UnicodeEncodeError:
            raise ToolFailed(f"{tool.id}: an argument holds half a surrogate pair, which no address can hold") from None
        tries = TRIES if tool.effects == "read" else 1
        wait = FIRST_WAIT
        end = time.monotonic() + timeout_of(tool)
        for attempt in range(1, tries + 1):
            asked: float | None = None
            try:
                status, headers, text = await once(draft, max(0.0, end - time.monotonic()))
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError, TimeoutError) as error:
                said = f"the connection failed: {hidden(str(error) or type(error).__name__)}"
            except (aiohttp.ClientError, ValueError) as error:
                raise ToolFailed(f"{tool.id}: {hidden(f'{type(error).__name__}: {error}')}") from None
            else:
                if 200 <= status < 300:
                    return of_text(tool, hidden(text), is_json="json" in headers.get("content-type", ""))
                said = f"the server answered {status}" + (f": {hidden(first_line(text))}" if text.strip() else "")
                if not passing(status):
                    raise ToolFailed(f"{tool.id}: {said}")
                asked = retry_after(headers)
            # Jitter needs no seed: it changes when an answer comes, never what it says.
            pause = asked if asked is not None else wait * random.uniform(0.5, 1.0)
            if attempt == tries or time.monotonic() + pause >= end:
                raise ToolUnreachable(f"{tool.id}: {said}" + (f" (tried {attempt} times)" if attempt > 1 else ""))
            await asyncio.sleep(pause)
            wait *= 2
        raise AssertionError("unreachable: the last try returns or raises")

    return call


def _in_path(tool: Tool, name: str, value: Any) -> str:
    """Return an argument as a part of a path, percent-encoded. Raises ToolFailed for an empty one, which would leave the
    part out.
    """
    text = _text(value)
    if not text:
        raise ToolFailed(f"{tool.id}: the argument {name!r} is empty, and stands in the path of the address")
    return quote(text, safe="")


async def _text_of(tool: Tool, reply: aiohttp.ClientResponse) -> str:
    """Return the body of an answer as text, by the charset that it names, else as UTF-8. Raises ToolFailed where it has
    more bytes than the tool's `answer_mb`.
    """
    body = bytearray()
    try:
        async for chunk in within(reply.content.iter_any(), most_bytes(tool)):
            body += chunk
    except TooLong:
        reply.close()
        raise too_long(tool) from None
    try:
        return body.decode(reply.charset or "utf-8", errors="replace")
    except LookupError:
        return body.decode(errors="replace")


async def _next(tool: Tool, address: URL, where: str) -> URL:
    """Return the address that a redirect from `address` names in `where`. Raises ToolFailed where it is no http address, or
    leads to another host that has a private address.

    A server outside must not reach what only this machine can, as the metadata of a cloud or a service on localhost.
    """
    from yarl import URL

    found = address.join(URL(where))
    if found.scheme not in ("http", "https"):
        raise ToolFailed(f"{tool.id}: the server redirects to what is no http address")
    if (found.host, found.port) != (address.host, address.port) and await _is_private(found.host or ""):
        raise ToolFailed(
            f"{tool.id}: the server redirects to the private address {found.host}; write it as url where it is right"
        )
    return found


async def _is_private(host: str) -> bool:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        return False  # connecting will say that it is not there
    return any(not ipaddress.ip_address(str(place[0]).partition("%")[0]).is_global for *_, place in found)


def _text(value: Any) -> str:
    """Return a value as it stands in an address or a header: a text unchanged, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
