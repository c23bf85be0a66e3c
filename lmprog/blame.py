"""Classification of failures: the program's own, or an outage. All code that scores, trains, chooses or reports uses it.

An own failure counts against the program: it scores the metric's lowest value. An outage says nothing about the program, so its
row is left out. What the LM said can cause any failure but an outage; if such a row were left out, the score would be that of
the rows that survived. docs/failures.md has the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from lmprog.errors import InfrastructureError, LmprogError

Kind = Literal[
    "unreadable",
    "tool",
    "expression",
    "template",
    "limit",
    "timeout",
    "input",
    "metric",
    "provider",
    "connection",
    "cancelled",
]
"""The reason why a run has no outputs, or no score; a cancelled run did not end, and is never scored."""

OUTAGES = frozenset({"provider", "connection"})
"""An LM without an answer, a program's or a judge's; a tool or metric whose connection failed."""
MAX_OUTAGES = 0.05
"""The largest share of the rows of either side that may be outages in a comparison that something is chosen by."""
PASSING = frozenset({408, 425, 429})
"""HTTP statuses below 500 that say that the server is crowded, and nothing about the request."""
CONNECT_TIMEOUTS = frozenset({"ConnectTimeout", "ConnectTimeoutError", "ConnectionTimeoutError"})
"""The exceptions of httpx, requests, urllib3 and aiohttp for a connection that was not made in time."""


def is_outage(kind: str | None) -> bool:
    """Return whether a failure of this kind is an outage (a provider's or a connection's); False for None,
    which is no failure.
    """
    return kind in OUTAGES


def is_own(kind: str | None) -> bool:
    """Return whether a failure of this kind is the program's own, which scores lowest: True for every kind that is no outage,
    False for None, which is no failure."""
    return kind is not None and kind not in OUTAGES


def too_many_outages(lost: int, rows: int) -> bool:
    """Return whether the share of rows that are outages, `lost` of `rows`, is above MAX_OUTAGES (0.05), so that no
    candidate may be chosen by the others; False for no rows.
    """
    return lost > MAX_OUTAGES * rows


def exit_status(kinds: Iterable[str]) -> int:
    """Return a command's exit status for the kinds of its runs' failures: 3 where one is an outage, else 2 where one is a
    wrong input, else 1 for other failures, 0 for none.
    """
    return max((3 if is_outage(kind) else 2 if kind == "input" else 1 for kind in kinds), default=0)


def passing(status: int) -> bool:
    """Return whether an HTTP status (500 and above, 408, 425, 429) means that the server failed or is overloaded, so that the
    same request may succeed later.
    """
    return status >= 500 or status in PASSING


def connection_failed(error: BaseException) -> bool:
    """Return whether an exception of a tool or metric, or one that it was raised from or while handling, is a failed
    connection.

    A failed connection is one that was refused, cut or not made in time, a host that was not found, an HTTP status for
    which `passing` is True, or an InfrastructureError, as of a program that a tool runs. A TimeoutError that the user's
    code raised itself, and the timeout of an answer, may mean anything, so they are none.
    """
    import errno
    import socket
    import ssl

    unreachable = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}
    return any(
        isinstance(each, ConnectionError | socket.gaierror | ssl.SSLError)
        or (isinstance(each, LmprogError) and each.exit_status == InfrastructureError.exit_status)
        or (isinstance(each, OSError) and each.errno in unreachable)
        or any(kind.__name__ in CONNECT_TIMEOUTS for kind in type(each).__mro__)
        or any(map(passing, _statuses(each)))
        for each in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the exception and, one after another, those that it was raised from or while they were handled; nothing for
    None.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _statuses(error: BaseException) -> Iterator[int]:
    """Yield the HTTP statuses (100 to 599) that an exception or its `response` has, where the clients in use keep them:
    requests, httpx, aiohttp, urllib, openai.
    """
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status"):
            found = getattr(holder, name, None)
            if isinstance(found, int) and not isinstance(found, bool) and 100 <= found < 600:
                yield found
