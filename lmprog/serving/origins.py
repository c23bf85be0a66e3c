"""Access by host and origin: the names that the server is called by, and the pages whose scripts may call it.

A page in a browser reaches servers on its user's machine and, with a name that leads there (DNS rebinding), also
reads their answers. A request must therefore name a host of this server, and come from an allowed page or from no
page.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from lmprog.serving.refusals import Refused

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Return whether an address to listen at (a name, an IP address, empty: all) is reachable from this machine alone; one
    that cannot be looked up counts as public."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host or None, None, flags=socket.AI_PASSIVE)}
        return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)
    except (OSError, ValueError):
        return False


def hosts_of(host: str, named: Sequence[str]) -> frozenset[str] | None:
    """Return the host names that requests may use, in small letters: those of this machine, `host` and `named`; None (any) for
    a server that others can reach and that was given no names.

    `host` is the address that the server listens at, `named` are the names given on the command line (`--allow-host`).
    """
    if not named and not is_loopback(host):
        return None
    return frozenset(name.lower() for name in (*LOOPBACK, host, *named))


class Origins:
    """ASGI middleware that answers with status 403 requests for a host that is not among `hosts` (None: any is allowed), and
    requests from web pages of another origin than the server's own and `origins`. A request without an origin is allowed."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, origins: Iterable[str]) -> None:
        self.app = app
        self._hosts, self._origins = hosts, frozenset(origin.lower().rstrip("/") for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = self._refused(scope)
            if refused is not None:
                await refused.response(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refused(self, scope: Scope) -> Refused | None:
        """Return the refusal of a request by its headers; None where it is allowed."""
        given = [value.decode("latin-1").strip().lower() for name, value in scope["headers"] if name == b"host"]
        if self._hosts is not None and (len(given) != 1 or _name(given[0]) not in self._hosts):
            return Refused("host")
        for name, value in scope["headers"]:
            origin = value.decode("latin-1").strip().lower()
            if name == b"origin" and origin not in self._origins and not (given and _same(origin, given[0])):
                return Refused("origin")
        return None


def _name(host: str) -> str:
    """Return the host in the value of a header `Host`, as `name`, `name:port` or `[address]:port`, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and ":" in host else host


def _same(origin: str, host: str) -> bool:
    """Return whether a header `Origin` names the server that the header `Host` names, so that its own page calls."""
    return origin in (f"http://{host}", f"https://{host}")
