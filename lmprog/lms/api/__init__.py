"""LMs behind an API: each call is retried until it has a reply or cannot have one, within the limits of the LM.

Two routes lead there. OpenAI, and a server at an address of one's own that speaks OpenAI's protocol, are called directly, with
up to thousands of calls in flight; litellm reaches every other provider.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from lmprog.compiler import plan
from lmprog.compiler.backends import VLLM_PREFIX
from lmprog.compiler.plan import AdapterReference
from lmprog.compiler.routes import is_direct
from lmprog.compiler.tokens import reply_limit
from lmprog.errors import LmprogError, ProviderError, UsageError
from lmprog.lms.api.access import Access
from lmprog.lms.api.adapter_store import AdapterStore
from lmprog.lms.api.adapters import Adapters
from lmprog.lms.api.failures import TryFailed, outcome
from lmprog.lms.api.fleet import Servers
from lmprog.lms.api.limits import Gate
from lmprog.lms.api.route import Route
from lmprog.lms.images import with_images
from lmprog.lms.lm import LM, Completion, Request, innermost

T = TypeVar("T")
FIRST_WAIT = 1.0
"""Seconds before the second try; each further wait is twice as long, up to the longest."""
MAX_WAIT = 60.0
MAX_REQUESTED_WAIT = 600.0
"""The longest wait, in seconds, that a provider may ask for: a longer one, as for a quota of the day, ends the tries."""


class ApiLM:
    """An LM behind an API that a spec declares (`declared`), with retries, rate limits, and messages that hide secrets."""

    def __init__(self, declared: plan.LM) -> None:
        self._declared = declared
        self._access = Access.of(declared)
        self.gate = Gate(declared.limits)
        """The gate that delays the calls of this LM so that they keep its limits; a worker that shares the limits with
        others sets another one.
        """
        self._store = AdapterStore(declared)
        self._servers = Servers(declared, self._access, lambda access: _route(declared, access, self._store))
        self._structured = True
        """True until the provider has refused a JSON schema for a reply; none is sent after that."""

    async def complete(self, request: Request) -> Completion:
        """Return the reply to a request, after retries and within the rate limits.

        Raises ProviderError where there is no reply, with the provider's own message and without secrets. Raises
        UsageError where the LM has no address or cannot answer with the request's adapter, NoImage (a UsageError) for
        an image that cannot be read, and the errors of `load` for an adapter.
        """
        if request.adapter is not None:
            self._require_adapters(request.adapter)
            if not self._servers.is_spread(request.adapter):
                await self.load(request.adapter)
        messages = with_images(request.messages)
        if messages is not request.messages:
            request = replace(request, messages=messages)
        pieces = _Pieces(request.on_text) if request.on_text is not None else None
        if pieces is not None:
            request = replace(request, on_text=pieces.piece)

        return await self._patiently(lambda: self._asked(request, pieces))

    async def load(self, adapter: AdapterReference) -> None:
        """Load an adapter on the server before the first request with it (which would load it too), with the tries of a
        request.

        Raises ProviderError where the server or the adapter store refuses or fails, InfrastructureError where an
        adapter on the hub cannot be downloaded, UsageError where this LM takes no adapter or the adapter is missing or
        changed.
        """
        self._require_adapters(adapter)
        await self._patiently(lambda: self._servers.load(adapter))

    async def unload(self, adapter: AdapterReference) -> None:
        """Make the server drop an adapter, and delete the copy of it that this process put into the adapter store;
        tried once. No error where neither has it. Raises ProviderError where the server or the store refuses or cannot
        be reached, UsageError where this LM takes no adapter, or the adapter is missing or changed.
        """
        adapters = self._require_adapters(adapter)
        name = adapters.name(adapter)
        failed = await self._servers.unload(adapter)
        if failed is not None:
            raise ProviderError(self._said(failed, 1))
        await self._store.remove(name)

    def _require_adapters(self, wanted: AdapterReference) -> Adapters:
        """Return the adapters of one of the servers; raise UsageError where this LM takes none."""
        adapters = self._servers.members[0].route.adapters
        if adapters is not None:
            return adapters
        fix = "leave `adapter` out, or name one of those"
        if self._declared.model.startswith(VLLM_PREFIX):
            fix = "write the address of the server as api_base"
        raise UsageError(
            f"the LM {self._declared.id!r} ({self._declared.model}) takes no adapter ({wanted.path}): only models in this "
            f"process and servers of vLLM (hosted_vllm/... with api_base) do; {fix}"
        )

    async def _patiently(self, ask: Callable[[], Awaitable[T | TryFailed]]) -> T:
        """Return the reply that `ask` returns, after at most as many tries as the LM's limits allow. Raises ProviderError
        with the provider's own words where there is none.
        """
        return await patiently(
            ask, self._declared.limits.tries, self._said, can_move=self._servers.can_move, hold=self.gate.hold
        )

    async def _asked(self, request: Request, pieces: _Pieces | None) -> Completion | TryFailed:
        """Try a request once, and once more without a JSON schema where the provider refuses that; return the reply, or the
        failure of the last try. `pieces` are those that a try streams (None: it streams none), and are void where it fails.
        """
        # A method and no function within `complete`: one that calls itself is a circle for the garbage collector to find.
        structured = self._structured and request.format == "json"
        found = await self._try(request, structured)
        if isinstance(found, TryFailed):
            if pieces is not None:
                pieces.void()
            if structured and found.refuses("response_format", "json_schema"):
                self._structured = False
                return await self._asked(request, pieces)
        return found

    async def _try(self, request: Request, structured: bool) -> Completion | TryFailed:
        limit = request.params.get("timeout", self._declared.limits.timeout)
        if "timeout" in request.params:
            request = replace(request, params={k: v for k, v in request.params.items() if k != "timeout"})

        async def once() -> Completion:
            async with self.gate.slot(request) as slot:
                with self._servers.asked(request) as route:
                    async with asyncio.timeout(limit):
                        completion = await route.ask(request, structured and route.structured)
                slot.took(completion.usage)
                return completion

        return await outcome(once(), limit)

    def _said(self, failed: TryFailed, attempts: int) -> str:
        tried, text, fix = words_of_failure(failed, attempts, self._access)
        if failed.limit is not None:
            limit = reply_limit(self._declared.params) or "..."
            fix = f"; write params: {{{failed.limit}: {limit}}} for lms.{self._declared.id}"
        return f"{self._declared.model} gave no answer{tried}: {text}{fix}"


async def patiently(
    ask: Callable[[], Awaitable[T | TryFailed]],
    tries: int,
    said: Callable[[TryFailed, int], str],
    *,
    can_move: Callable[[TryFailed], bool] = lambda failed: False,
    hold: Callable[[float], None] = lambda seconds: None,
) -> T:
    """Call `ask` until it returns a reply, at most `tries` times, and return the reply. A TryFailed that it returns is
    followed by another try where it is `passing` and asks for no wait above MAX_REQUESTED_WAIT (600 s); the wait before
    that is the provider's, or doubles from one try to the next, from about a second to a minute at most. Errors that
    `ask` raises pass.

    Where `can_move` is True for a failure, another server can be asked, so that there is no wait. Before a wait that
    the provider asks for, `hold` is called with its seconds. Raises ProviderError with the message that `said` returns
    for the last failure and the number of tries.
    """
    attempt, wait = 1, FIRST_WAIT
    while True:
        found = await ask()
        if not isinstance(found, TryFailed):
            return found
        asked = found.asked or 0.0
        # Raised here and not where the failure was caught: what was caught may hold a key, and would be its context.
        if not found.passing or attempt == tries or asked > MAX_REQUESTED_WAIT:
            raise ProviderError(said(found, attempt))
        if can_move(found):
            attempt += 1
            continue
        if asked:
            hold(asked)
        # Jitter is the one draw here that needs no seed: it changes when a reply comes, never what it says.
        await asyncio.sleep(asked or wait * random.uniform(0.5, 1.0))
        attempt, wait = attempt + 1, min(2 * wait, MAX_WAIT)


def words_of_failure(failed: TryFailed, attempts: int, access: Access) -> tuple[str, str, str]:
    """Return three parts of a message about a failure, without the secrets of `access`: the number of tries (empty for
    one), the first 400 characters of its first line, and the fix with `; ` before it (empty where there is none).
    """
    text = (access.hide(failed.words).strip().splitlines() or [""])[0][:400]
    later = f" (to be asked again in {failed.asked:.0f} s)" if (failed.asked or 0.0) > MAX_REQUESTED_WAIT else ""
    tried = f" (tried {attempts} times)" if attempts > 1 else ""
    return tried, text + later, f"; {failed.fix}" if failed.fix else ""


def api_lm(lm: LM) -> ApiLM:
    """Return the ApiLM inside wrappers that count or cache; raise LmprogError where the LM is not behind an API, and
    the errors of `innermost`.
    """
    found = innermost(lm)
    if not isinstance(found, ApiLM):
        raise LmprogError(f"{type(found).__name__} is no LM behind an API, so no adapter can be loaded there")
    return found


class _Pieces:
    """The pieces of a streamed reply on their way to the request's `on_text` (`tell`), which gets None where the try that
    sent some of them failed.
    """

    def __init__(self, tell: Callable[[str | None], None]) -> None:
        self._tell, self._any = tell, False

    def piece(self, text: str | None) -> None:
        self._any = True
        self._tell(text)

    def void(self) -> None:
        if self._any:
            self._any = False
            self._tell(None)


def _route(declared: plan.LM, access: Access, store: AdapterStore) -> Route:
    if is_direct(declared):
        from lmprog.lms.api.direct import DirectRoute

        return DirectRoute(declared, access, store)
    from lmprog.lms.api.through_litellm import LitellmRoute

    return LitellmRoute(declared, access)
