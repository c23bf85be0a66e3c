"""OpenAI, and servers that speak its protocol, such as vLLM's: asked with aiohttp, a thousand at once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from lmprog.boundary.bodies import TooLong, within
from lmprog.compiler import model_table, plan
from lmprog.compiler.backends import VLLM_PREFIX
from lmprog.errors import UsageError
from lmprog.lms.api.access import Access
from lmprog.lms.api.adapter_store import AdapterStore
from lmprog.lms.api.adapters import Adapters
from lmprog.lms.api.body import TOKEN_IDS, parameters
from lmprog.lms.api.event_stream import events_of
from lmprog.lms.api.failures import TryFailed, too_long, words_of
from lmprog.lms.api.reply import Pieces, cost, read
from lmprog.lms.api.server import Server, json_of
from lmprog.lms.lm import Completion, Request

log = logging.getLogger(__name__)


class DirectRoute:
    """The route to OpenAI and to servers of its protocol: requests by HTTP to `{api_base}/chat/completions`, without
    litellm.
    """

    def __init__(self, declared: plan.LM, access: Access, store: AdapterStore) -> None:
        self.structured = True
        provider, _, self._model = declared.model.partition("/")
        self._id, self._longest = declared.id, int(declared.limits.reply_mb * 1e6)
        self._refused: set[str] = set()
        """Fields that lmprog adds by itself and this server does not take."""
        self._more = TOKEN_IDS if declared.model.startswith(VLLM_PREFIX) else {}
        self._prices = model_table.own_limits(declared)
        self._at_openai = provider == "openai" and declared.api_base is None
        self._limit: str | None = None
        """The model's own name for the limit of the reply, where it refuses the name in the spec; None where it does not."""
        self._server = Server(access)
        self.adapters = Adapters(declared, self._server, store) if declared.backend.adapters and access.base else None

    async def ask(self, request: Request, structured: bool) -> Completion:
        """Send a request, with a JSON schema for the reply if `structured`, and return the reply; an adapter is loaded
        on the server first.

        It is sent again only where the server refuses a field that can be left out or renamed, or has lost the adapter.
        Raises TryFailed where the server gave no reply (TimeoutError and OSError pass unchanged), UsageError where no
        address is known, and for an adapter the errors of `Adapters.loaded`.
        """
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
        extra = own.pop("extra_body", {})
        body = {"model": model, "messages": request.messages, **own, **extra}
        try:
            async with self._server.post("/chat/completions", body) as response:
                if response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    reply = await self._streamed(response, request)
                else:
                    reply = json_of(response, b"".join([chunk async for chunk in self._chunks(response)]))
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
"""Fields that lmprog adds to a request by itself, and leaves out where a server refuses them."""


def _piece(data: bytes, value: Any) -> Mapping[str, Any]:
    """Return a piece of a streamed reply from an event: `data` is its text, `value` the JSON in it (None: an empty piece).
    Raises TryFailed where the event holds no piece, or an error.
    """
    if value is None:  # says nothing
        return {}
    if not isinstance(value, Mapping) or value.get("error"):
        raise TryFailed(f"the stream broke off: {words_of(data.decode(errors='replace'))}", passing=True)
    return value
