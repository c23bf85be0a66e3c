"""The route to every other provider, by litellm; its retries are switched off, since ApiLM retries within the LM's limits."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import math
import os
import warnings
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

from lmprog.boundary.bodies import ENCODINGS, bound
from lmprog.boundary.wire import retry_after, whole_text
from lmprog.compiler import model_table, plan
from lmprog.extras import needed_by
from lmprog.lms.api.access import Access
from lmprog.lms.api.adapters import Adapters
from lmprog.lms.api.body import marked, marks_caches, parameters
from lmprog.lms.api.failures import TryFailed, too_long
from lmprog.lms.api.reply import Pieces, cost, read
from lmprog.lms.lm import Completion, Request


class LitellmRoute:
    """The route by `litellm.acompletion` to every provider that `DirectRoute` does not reach; making it imports litellm,
    and raises MissingExtra where that is not installed.
    """

    def __init__(self, declared: plan.LM, access: Access) -> None:
        # Without this litellm fetches its price table from the network when it is imported.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        with needed_by(f"{declared.model!r} is reached through litellm, which"):
            import litellm

        litellm.suppress_debug_info = True
        # What it logs are its own background tasks, and bodies of failed requests, which may hold keys.
        logging.getLogger("LiteLLM").setLevel(logging.CRITICAL + 1)
        for name in ("openai", "httpx", "httpcore", "anthropic"):  # at their debug level these write headers
            logging.getLogger(name).setLevel(logging.WARNING)
        # A call that is cancelled between litellm's threads leaves a coroutine of litellm's own behind.
        warnings.filterwarnings("ignore", r"coroutine '\w+\.acompletion' was never awaited", RuntimeWarning)
        # What a server sends in another shape than asked is read by `reply.py`, without a warning of pydantic's.
        warnings.filterwarnings("ignore", "(?s)Pydantic serializer warnings", UserWarning)
        self._litellm = litellm
        guard_httpx()
        _import_what_calls_import(litellm)
        # Its log of each call is written by background tasks, which a loop that ends tells of with a traceback; a call that it
        # takes for one of its own parts is not logged. Set for our calls alone: a tool may call litellm and want its log.
        context = importlib.import_module("litellm._internal_context") if _has("litellm._internal_context") else None
        self._internal: ContextVar[bool] = getattr(context, "is_internal_call", ContextVar("unused"))
        self.adapters: Adapters | None = None
        self._model = declared.model
        self._id, self._longest = declared.id, int(declared.limits.reply_mb * 1e6)
        self._access = access
        own = declared.price is not None or declared.backend.self_hosted
        self._prices = model_table.own_limits(declared) if own else None
        self._marks = marks_caches(declared.model)
        self.structured = _knows(lambda: litellm.supports_response_schema(declared.model))
        # Its gateway for tool servers would import the package `mcp` for any request with tools; ours are no such servers.
        gateway = _has("litellm.responses.mcp.chat_completions_handler")
        self._tools_alone = {"_skip_mcp_handler": True} if gateway else {}
        self._seeded = declared.backend.seeded and _knows(
            lambda: "seed" in (litellm.get_supported_openai_params(declared.model) or ())
        )

    async def ask(self, request: Request, structured: bool) -> Completion:
        """Send the request once, with a JSON schema for the reply if `structured`, and return the reply. Raises
        TryFailed for whatever fails, a TimeoutError or OSError too; its words may hold a secret.
        """
        failed = await self._asked(request, structured)
        if isinstance(failed, TryFailed):
            raise failed
        return failed

    async def _asked(self, request: Request, structured: bool) -> Completion | TryFailed:
        messages = marked(request.messages, request.constant) if self._marks else list(request.messages)
        messages = whole_text(messages)  # the libraries of providers cannot write half a surrogate pair
        made = parameters(request, structured=structured, seeded=self._seeded)
        fixed: dict[str, Any] = {"model": self._model, "num_retries": 0, "max_retries": 0, "drop_params": False}
        if self._access.headers:
            fixed["extra_headers"] = dict(self._access.headers)
        if self._access.key is not None:
            fixed["api_key"] = self._access.key
        if self._access.base is not None:
            fixed["api_base"] = self._access.base
        if "tools" in made:
            made.update(self._tools_alone)
        exchange = Exchange(self._id, self._longest)
        token, asking = self._internal.set(True), _exchange.set(exchange)
        try:
            reply = await self._litellm.acompletion(**fixed, messages=messages, **made)
            if request.on_text is not None:
                return await self._streamed(reply, request)
            return self._completion(reply)
        except TryFailed as failed:
            return failed
        except Exception as error:
            # litellm makes an error of its own of whatever is raised beneath it.
            return exchange.failed or _failure(error)
        finally:
            _exchange.reset(asking)
            self._internal.reset(token)

    def _completion(self, reply: Any) -> Completion:
        if not hasattr(reply, "model_dump"):
            raise TryFailed("it answered with what is no JSON", passing=True)
        whole = whole_text(reply.model_dump(warnings=False))
        if self._prices is not None:
            return read(whole, cost(whole, self._prices))
        return read(whole, _usd(getattr(reply, "_hidden_params", {}).get("response_cost")))

    async def _streamed(self, chunks: Any, request: Request) -> Completion:
        pieces = Pieces()
        async for chunk in chunks:
            text = pieces.add(whole_text(chunk.model_dump(warnings=False)))
            if text and request.on_text is not None:
                request.on_text(text)
        # litellm ends a stream that broke off, or in which the provider failed, with a reason of its own.
        reasons = [getattr(chunks, f"{kind}_finish_reason", "") for kind in ("received", "intermittent")]
        if not pieces.ended or not any(reason is not None for reason in reasons):
            raise TryFailed("the stream broke off before the reply had ended", passing=True)
        whole = pieces.whole()
        completion = read(whole, cost(whole, self._prices) if self._prices is not None else self._table_cost(whole))
        said = completion.text or completion.tool_calls or (completion.usage and completion.usage.completion_tokens)
        if not said:
            # litellm ends a stream in which it found nothing, as of a server that does not stream, like any other.
            raise TryFailed("it streamed no reply", passing=True)
        return completion

    def _table_cost(self, whole: dict[str, Any]) -> float | None:
        """Return the cost in USD of a streamed reply by litellm's table, or None for a model that is not in it."""
        try:
            made = self._litellm.ModelResponse(
                model=self._model, usage=self._litellm.Usage(**(whole.get("usage") or {}))
            )
            return _usd(self._litellm.completion_cost(completion_response=made, model=self._model))
        except Exception:  # litellm raises a bare Exception for a model that its table does not have
            return None


@cache
def _import_what_calls_import(litellm: Any) -> None:
    """Have litellm import what it imports with its first call, which would count against the time of that call.

    Nothing is sent: the reply is made up. On a running event loop, where a call can only be awaited, only `openai` is
    imported.
    """
    import openai  # noqa: F401

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        message = [{"role": "user", "content": "x"}]
        asyncio.run(litellm.acompletion(model="openai/x", messages=message, api_key="x", mock_response="x"))


@dataclass
class Exchange:
    """A call of a provider for the LM `id`, of whose decoded reply at most `longest` bytes are read.

    `failed` is the failure where the reply was longer. It is None until then.
    """

    id: str
    longest: int
    failed: TryFailed | None = None
    """The failure of a reply that was too long; None where it was not."""

    def too_long(self) -> TryFailed:
        """Record that the reply is too long, and return that failure."""
        self.failed = too_long(self.id, self.longest)
        return self.failed


_exchange: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""The call that the running task makes for lmprog; None in any other task."""


@cache
def guard_httpx() -> None:
    """Patch httpx for lmprog's calls, once in a process: they follow no redirect, and read no reply further than its
    limit.

    A redirect would give key, headers and prompt to another host. The clients are made within litellm and the
    providers' libraries, and no setting reaches all of them. Other calls of the process, as those of a tool, are left
    as they are.
    """
    import httpx

    send = httpx.AsyncClient.send

    @wraps(send)
    async def guarded(self: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        exchange = _exchange.get()
        if exchange is None:
            return await send(self, request, stream=stream, **options)
        request.headers["accept-encoding"] = ENCODINGS
        response = await send(self, request, **{**options, "stream": True, "follow_redirects": False})
        bound(response, exchange.longest, httpx.AsyncByteStream, exchange.too_long)
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response

    httpx.AsyncClient.send = guarded  # type: ignore[method-assign]


def _usd(value: Any) -> float | None:
    """Return a cost in US dollars that litellm worked out; None where it is no number, not finite, or below 0."""
    number = value if isinstance(value, int | float) else None
    return float(number) if number is not None and math.isfinite(number) and number >= 0 else None


def _failure(error: Exception) -> TryFailed:
    """Return the TryFailed for an exception of litellm's: by its HTTP status where it has one from 300 on, else `passing`,
    as for a reply that litellm could not read.
    """
    # litellm puts the traceback of what it could not take apart into its words.
    words = str(error).partition("Traceback (most")[0].strip() or type(error).__name__
    status = getattr(error, "status_code", None)
    if isinstance(error, TimeoutError | OSError | json.JSONDecodeError):
        return TryFailed(words, passing=True)
    if not isinstance(status, int) or status < 300:
        # A reply that litellm could not take apart, as one without choices, or a page of HTML.
        return TryFailed(words, passing=True)
    # litellm keeps the headers here; those of `response` it leaves empty for most failures.
    kept = getattr(error, "litellm_response_headers", None) or getattr(error, "response", None)
    headers = getattr(kept, "headers", kept) or {}
    failed = TryFailed.of_status(status, words, headers, f"{getattr(error, 'code', '')} {getattr(error, 'body', '')}")
    if failed.asked is None and failed.passing:
        failed.asked = retry_after(getattr(getattr(error, "response", None), "headers", None) or {})
    return failed


def _has(module: str) -> bool:
    """Return whether this version of litellm has a module."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _knows(ask: Any) -> bool:
    try:
        return bool(ask())
    except Exception:  # litellm raises for a model whose provider it cannot tell; the call itself will say so
        return False
