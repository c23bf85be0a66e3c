"""The servers of an LM: which of them a request goes to, and which are left alone because they fail.

A request goes to the server that the rendezvous hash (Thaler and Ravishankar, 1998) of its constant head names, so that the
server has the head in its prefix cache. A server with more than SPREAD times its share of the calls in flight gets no more
("consistent hashing with bounded loads", arXiv 1608.01350): what it does not take goes by the hash of the whole prompt, so that
the rollouts of one prompt stay together.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmprog.compiler import plan
from lmprog.compiler.plan import AdapterReference
from lmprog.lms.api.access import Access
from lmprog.lms.api.addresses import Discovered, listed
from lmprog.lms.api.failures import TryFailed, outcome
from lmprog.lms.lm import Request

if TYPE_CHECKING:
    from lmprog.lms.api.adapters import Adapters
    from lmprog.lms.api.route import Route

SPREAD = 1.25
"""The multiple of its even share of the calls in flight from which a server gets no more, as long as others are below it."""
FIRST_OUT = 1.0
"""Seconds for which a server that failed gets no request; each further time is twice as long, up to the longest."""
MAX_OUT = 30.0


@dataclass(eq=False)
class Member:
    """A server of an LM: its address and key (`access`), the route to it, and the number of its calls in flight.

    `failures` counts how often it was put out since it last answered, `out_until` is the time until which it gets no
    requests (None: it gets them), and `on_trial` is True while one request tries whether it answers again.
    """

    access: Access
    route: Route
    in_flight: int = 0
    failures: int = 0
    """Number of times that it was put out since it last answered."""
    out_until: float | None = None
    on_trial: bool = False
    """True while one request tries whether it answers again."""

    def takes(self, now: float) -> bool:
        """Return whether a request may be sent to the server at the time `now`: it is not put out, or it is time for one
        request that tries whether it answers again.
        """
        return self.out_until is None or (now >= self.out_until and not self.on_trial)


class Servers:
    """The servers of one LM: one, or several for an `api_base` that lists them. A server that fails gets no requests for a
    while, unless all have failed.
    """

    def __init__(self, declared: plan.LM, access: Access, make: Callable[[Access], Route]) -> None:
        self._declared, self._make = declared, make
        self._lock = threading.Lock()
        fleet = declared.api_base if isinstance(declared.api_base, plan.Fleet) else None
        self.several = fleet is not None
        """True if the spec names several servers, or a file of them."""
        self._discovered = Discovered(declared.id, fleet.discover) if fleet is not None and fleet.discover else None
        self._by_address: dict[str, Member] = {}
        self._spread: set[AdapterReference] = set()
        """The adapters that were loaded on all servers before the first request with them."""
        if fleet is None:
            self._by_address[""] = Member(access, make(access))
        elif self._discovered is None:
            self._keep(listed(declared))

    @property
    def members(self) -> Sequence[Member]:
        """The servers at present, in the order in which they are listed; one that leaves the list is forgotten. Raises
        UsageError where a file lists none.
        """
        with self._lock:
            if self._discovered is not None:
                self._keep(self._discovered.addresses())
            return tuple(self._by_address.values())

    @contextmanager
    def asked(self, request: Request) -> Iterator[Route]:
        """Return a context that yields the route to the server chosen for a request, and counts a call there; an error
        of the block passes, and decides whether the server is put out. Entering it raises UsageError where a file lists
        no server.
        """
        members = self.members
        with self._lock:
            member = members[0] if len(members) == 1 else chosen(members, request, time.monotonic())
        with self._watched(member):
            yield member.route

    def can_move(self, failed: TryFailed) -> bool:
        """Return whether a request that failed at one server can be sent to another one at once; False for an LM with
        one server, for a failure that another server would share, and where all are put out.
        """
        if not self.several or not _of_server(failed):
            return False
        now = time.monotonic()
        return any(member.takes(now) for member in self.members)

    def is_spread(self, adapter: AdapterReference) -> bool:
        """Return whether nothing is to be loaded before a request with an adapter: `load` has loaded it on all servers,
        or there is only one, which loads it with the first request that names it.
        """
        return not self.several or adapter in self._spread

    async def load(self, adapter: AdapterReference) -> TryFailed | None:
        """Load an adapter on all servers that are not put out; return None, or the failure where one refuses it, or all
        fail. Raises the errors of `Adapters.loaded` that are no failure of a server, as for files that are missing.

        A server that fails is put out, and loads the adapter before it answers the next request that names it.
        """
        failures = await self._each(lambda adapters: adapters.loaded(adapter))
        refused = next((failed for failed in failures if failed is not None and not failed.passing), None)
        if refused is None and None in failures:
            self._spread.add(adapter)
            return None
        return refused or failures[0]

    async def unload(self, adapter: AdapterReference) -> TryFailed | None:
        """Make all servers drop an adapter; return None, or the failure of the first that refuses or, where none can be
        reached, of the first.

        A server that is put out drops it before it next loads another. Raises UsageError where the adapter's files are
        missing or changed.
        """
        self._spread.discard(adapter)
        now = time.monotonic()
        for member in self.members if self.several else ():
            if not member.takes(now) and (adapters := member.route.adapters) is not None:
                adapters.owe(adapter)
        failures = await self._each(lambda adapters: adapters.unload(adapter))
        if self.several and None in failures:
            failures = [failed for failed in failures if failed is not None and not failed.passing]
        return next((failed for failed in failures if failed is not None), None)

    async def _each(self, ask: Callable[[Adapters], Awaitable[Any]]) -> list[TryFailed | None]:
        """Call `ask` with the adapters of each server that takes requests (of all servers where none does), at the same
        time; return for each its failure, or None.
        """
        limit = self._declared.limits.timeout
        now, members = time.monotonic(), self.members
        usable = [member for member in members if not self.several or member.takes(now)] or members

        async def one(member: Member) -> None:
            assert member.route.adapters is not None
            with self._watched(member):
                async with asyncio.timeout(limit):
                    await ask(member.route.adapters)

        return list(await asyncio.gather(*(outcome(one(member), limit) for member in usable)))

    @contextmanager
    def _watched(self, member: Member) -> Iterator[Member]:
        """Count a call of a server while the block runs. The block's end decides about the server: a failure of the server
        itself puts it out for a while, a reply or a refusal ends that; a cancelled block or another error changes nothing.
        In a fleet the failure's words get the server's address.
        """
        with self._lock:
            member.in_flight += 1
            put_out = member.failures
            trial = member.out_until is not None and not member.on_trial
            member.on_trial = member.on_trial or trial
        alive: bool | None = None
        try:
            yield member
            alive = True
        except (TryFailed, OSError) as error:
            alive = isinstance(error, TryFailed) and not _of_server(error)
            if self.several and isinstance(error, TryFailed):
                error.words = f"{member.access.hide(member.access.base or '')}: {member.access.hide(error.words)}"
            raise
        finally:
            with self._lock:
                member.in_flight -= 1
                if trial:
                    member.on_trial = False
                if alive:
                    member.failures, member.out_until = 0, None
                elif alive is False and member.failures == put_out:
                    # Of many calls that fail together, only the first makes the time longer.
                    self._put_out(member)

    def _put_out(self, member: Member) -> None:
        member.out_until = time.monotonic() + min(FIRST_OUT * 2**member.failures, MAX_OUT)
        member.failures += 1
        if self.several and member.route.adapters is not None:
            member.route.adapters.forget_all()

    def _keep(self, addresses: Sequence[str]) -> None:
        if tuple(self._by_address) != tuple(addresses):
            self._by_address = {
                address: self._by_address.get(address) or self._member(address) for address in addresses
            }

    def _member(self, address: str) -> Member:
        access = Access.of(self._declared, address)
        return Member(access, self._make(access))


def chosen(members: Sequence[Member], request: Request, now: float) -> Member:
    """Return the server of `members` (at least one) for a request: the one that other requests with the same constant
    part went to, or where that has more than its share of calls one chosen by the whole prompt.

    `now` is the time by which servers that were put out are tried again. Servers in `members` that are put out are
    passed over, unless all are.
    """
    usable = [member for member in members if member.takes(now)] or members
    in_flight = sum(member.in_flight for member in usable)
    most = math.ceil(SPREAD * (in_flight + 1) / len(usable))
    head, whole = _head(request), _bytes(request.messages)
    home = max(usable, key=lambda member: _weight(member, head or whole))
    if home.in_flight < most:
        return home
    free = [member for member in usable if member.in_flight < most]
    return max(free, key=lambda member: _weight(member, whole))


def _head(request: Request) -> bytes:
    """Return, as JSON, the part of the prompt that is the same for every row; empty where nothing is."""
    messages, characters = request.constant
    head: list[Any] = list(request.messages[:messages])
    if characters and messages < len(request.messages):
        content = request.messages[messages].get("content")
        head.append(content[:characters] if isinstance(content, str) else content)
    return _bytes(head) if head else b""


def _bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()


def _weight(member: Member, key: bytes) -> bytes:
    return hashlib.blake2b(
        key, digest_size=8, key=hashlib.sha256((member.access.base or "").encode()).digest()
    ).digest()


def _of_server(failed: TryFailed) -> bool:
    """Return whether a failure is one of the server, which another server need not share."""
    return failed.passing and (failed.status is None or failed.status >= 500)
