"""A request as a tool: from an address with placeholders, or an operation of an OpenAPI description.

A read is tried again where the server fails or is crowded, or the connection fails, as long as the tool's timeout allows; if
no try succeeds, it is an outage. What may change something (`effects: write`) is sent once: a request without an answer may
have been carried out. Any other answer that is no success is the tool's failure.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from lmprog.blame import passing
from lmprog.compiler.openapi import WHOLE_BODY, Operation
from lmprog.compiler.plan import Tool
from lmprog.errors import UsageError
from lmprog.tools import ToolFailed, ToolUnreachable, timeout_of
from lmprog.tools.connections import Connections
from lmprog.tools.environment import evaluated, without_secrets
from lmprog.tools.results import first_line, of_text

TRIES = 4
FIRST_WAIT = 0.5
"""Seconds before the second try; each further wait is twice as long."""
MOST_CONNECTING = 30.0
"""Seconds within which a connection is made, or it counts as failed."""


class Draft:
    """One request: its parts, as the arguments fill them."""

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
                address = address.replace(f"{{{name}}}", quote(_text(value), safe=""))
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
        self.url = address
        self.body: Any = body[WHOLE_BODY] if operation and operation.whole_body and WHOLE_BODY in body else body
        self.has_body = bool(body)


def http_tool(tool: Tool, connections: Connections) -> Callable[..., Awaitable[Any]]:
    """The request as an async function of its inputs. Raises UsageError where the address cannot be known."""
    import aiohttp
    from yarl import URL

    hidden = without_secrets(tool, "headers")
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
        async with session.request(
            draft.method,
            URL(draft.url, encoded=True).extend_query(draft.query),
            headers={"Accept": "application/json, text/*;q=0.9, */*;q=0.5", **draft.headers},
            json=draft.body if draft.has_body else None,
            allow_redirects=follow,
            # A server that cannot be reached is an outage, one that does not answer is not: so connecting ends first.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(MOST_CONNECTING, 0.9 * left)),
        ) as reply:
            return reply.status, reply.headers, await reply.text(errors="replace")

    async def call(**arguments: Any) -> Any:
        draft = Draft(tool, arguments)
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
                    return of_text(tool, text, is_json="json" in headers.get("content-type", ""))
                said = f"the server answered {status}" + (f": {hidden(first_line(text))}" if text.strip() else "")
                if not passing(status):
                    raise ToolFailed(f"{tool.id}: {said}")
                asked = retry_after(headers.get("retry-after"))
            # Jitter needs no seed: it changes when an answer comes, never what it says.
            pause = asked if asked is not None else wait * random.uniform(0.5, 1.0)
            if attempt == tries or time.monotonic() + pause >= end:
                raise ToolUnreachable(f"{tool.id}: {said}" + (f" (tried {attempt} times)" if attempt > 1 else ""))
            await asyncio.sleep(pause)
            wait *= 2
        raise AssertionError("unreachable: the last try returns or raises")

    return call


def retry_after(header: str | None) -> float | None:
    """The seconds that a server asks to wait, which it may say as a number or as a date; None where it does not."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _text(value: Any) -> str:
    """A value as it stands in an address or a header."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
