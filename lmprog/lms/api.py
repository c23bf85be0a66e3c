"""Any provider, through litellm: async, with retries that honour `Retry-After`, and usage and cost on every reply."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import warnings
from typing import Any

from lmprog.compiler import plan
from lmprog.compiler.expressions import EvaluationError, Expression
from lmprog.errors import ProviderError, UsageError
from lmprog.lms.lm import Completion, Request, Usage

TRIES = 8
TIMEOUT = 120.0
FIRST_WAIT = 1.0
"""Seconds before the second try; each further wait is twice as long, up to the longest."""
LONGEST_WAIT = 60.0
LONGEST_ASKED = 600.0
"""Seconds beyond which a provider that asks to wait is not waited for: a quota of the day, not a crowd."""
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses after which the same request may succeed."""


class ApiLM:
    """One model of one provider. A request that fails for a passing reason is tried 8 times in all."""

    def __init__(self, declared: plan.LM) -> None:
        # Without this litellm fetches its price table from the network when it is imported.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm

        litellm.suppress_debug_info = True
        logging.getLogger("LiteLLM").setLevel(logging.ERROR)  # its warnings are about its own background tasks
        # A call that is cancelled between litellm's threads leaves a coroutine of litellm's own behind.
        warnings.filterwarnings("ignore", r"coroutine '\w+\.acompletion' was never awaited", RuntimeWarning)
        self._litellm = litellm
        self._declared = declared
        self._secrets = _secrets(_value(declared.api_key))
        self._fixed: dict[str, Any] = {"model": declared.model, "num_retries": 0, "drop_params": False}
        if declared.api_key is not None:
            self._fixed["api_key"] = _value(declared.api_key)
        if declared.api_base is not None:
            self._fixed["api_base"] = _value(declared.api_base)

    async def complete(self, request: Request) -> Completion:
        """Raises ProviderError where no reply was had, with the provider's own words and no key in them."""
        params = {"timeout": TIMEOUT, **request.params}
        wait = FIRST_WAIT
        for attempt in range(1, TRIES + 1):
            try:
                reply = await self._litellm.acompletion(**self._fixed, messages=list(request.messages), **params)
                return self._completion(reply)
            except ProviderError:
                raise
            except Exception as error:
                status = getattr(error, "status_code", None)
                passing = status in PASSING or isinstance(error, TimeoutError | ConnectionError)
                asked = _retry_after(error)
                if asked is not None and asked > LONGEST_ASKED:
                    raise ProviderError(f"{self._said(error, attempt)} (to be asked again in {asked:.0f} s)") from None
                if not passing or attempt == TRIES:
                    raise ProviderError(self._said(error, attempt)) from None
            # Jitter is the one draw here that needs no seed: it changes when a reply comes, never what it says.
            await asyncio.sleep(asked if asked is not None else wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, LONGEST_WAIT)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _said(self, error: Exception, attempts: int) -> str:
        text = str(error).strip() or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        text = text.splitlines()[0][:400]
        tried = f" (tried {attempts} times)" if attempts > 1 else ""
        return f"{self._declared.model} gave no answer{tried}: {text}"

    def _completion(self, reply: Any) -> Completion:
        if not getattr(reply, "choices", None):
            raise ProviderError(f"{self._declared.model} answered without a choice")
        choice = reply.choices[0]
        used = getattr(reply, "usage", None)
        usage = Usage()
        if used is not None:
            usage = Usage(used.prompt_tokens or 0, used.completion_tokens or 0, self._cost(reply, used))
        return Completion(text=choice.message.content or "", usage=usage, finish_reason=choice.finish_reason or "stop")

    def _cost(self, reply: Any, used: Any) -> float | None:
        price = self._declared.price
        if price is not None:
            sent = price.get("input", 0.0) * (used.prompt_tokens or 0)
            return (sent + price.get("output", 0.0) * (used.completion_tokens or 0)) / 1e6
        try:
            return float(self._litellm.completion_cost(completion_response=reply, model=self._declared.model))
        except Exception:  # litellm raises a bare Exception for a model that its table does not have
            return None


def _value(expression: Expression | None) -> str | None:
    """An `api_key` or `api_base`, from the environment where the spec says so."""
    if expression is None:
        return None
    try:
        return str(expression.evaluate({"env": os.environ}))
    except EvaluationError as error:
        raise UsageError(f"{error}; set the variable in the environment and run the command again") from error


def _secrets(key: str | None) -> list[str]:
    """What must stand in no message: the key of the spec, and those that litellm may take from the environment itself."""
    taken = [value for name, value in os.environ.items() if name.endswith(("_API_KEY", "_TOKEN", "_SECRET"))]
    found = {value for value in taken if len(value) >= 8} | ({key} if key else set())
    return sorted(found, key=len, reverse=True)


def _retry_after(error: Exception) -> float | None:
    """Seconds that the provider asks to wait, where it does."""
    # litellm keeps the headers here; those of `response` it leaves empty for most failures.
    kept = getattr(error, "litellm_response_headers", None) or getattr(error, "response", None)
    headers = getattr(kept, "headers", kept) or {}
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None
