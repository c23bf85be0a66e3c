"""The models that answer: one in this process, one behind an address, or one of a provider that litellm reaches."""

from __future__ import annotations

import asyncio

from lmprog.compiler import plan
from lmprog.compiler.model_table import entry_of
from lmprog.extras import require
from lmprog.lms.lm import LM, Completion, Request, ToolCall, ToolOffer, Usage
from lmprog.lms.per_loop import PerLoop

__all__ = ["LM", "Completion", "Request", "ToolCall", "ToolOffer", "Usage", "is_direct", "make_lm", "require_packages"]


class _OnFirstUse:
    """Stands for an LM whose making is costly or needs a key, until it is asked."""

    def __init__(self, declared: plan.LM) -> None:
        self.declared = declared
        self._made: LM | None = None
        self._making = PerLoop(self._make_in_thread)

    @property
    def made(self) -> LM:
        if self._made is None:
            self.require()
            if self.declared.runs_here:
                from lmprog.lms.local import shared

                self._made = shared(self.declared.model)
            else:
                from lmprog.lms.api import ApiLM

                self._made = ApiLM(self.declared)
        return self._made

    def require(self) -> None:
        """Raise MissingExtra where the LM needs packages that are not installed."""
        model = self.declared.model
        if self.declared.runs_here:
            require(("torch", "transformers", "peft", "safetensors"), f"{model!r} runs in this process, which")
        elif not is_direct(self.declared):
            require(("litellm",), f"{model!r} is reached through litellm, which")

    def _make_in_thread(self) -> asyncio.Future[LM]:
        from lmprog.threads import in_thread  # which asks this package for what belongs to one event loop

        return asyncio.ensure_future(in_thread(lambda: self.made))

    async def complete(self, request: Request) -> Completion:
        if self._made is None and not self.declared.runs_here:
            # To import litellm takes seconds, in which no other call's limit may run out.
            await asyncio.shield(self._making.get())
        return await self.made.complete(request)


def is_direct(declared: plan.LM) -> bool:
    """Return whether an LM behind an API is asked without litellm: OpenAI's chat models, and servers that speak as OpenAI does.

    OpenAI answers for some models at its address for responses alone, whose form litellm knows.
    """
    provider, _, name = declared.model.partition("/")
    if declared.api_base is not None or provider == "hosted_vllm":
        return provider in ("openai", "hosted_vllm")
    return (
        provider == "openai"
        and not name.startswith("responses/")
        and entry_of(declared.model).get("mode") != "responses"
    )


def require_packages(lm: object) -> None:
    """Raise MissingExtra where an LM that is made at its first use needs packages that are not installed."""
    while (inner := getattr(lm, "lm", None)) is not None:
        lm = inner
    if isinstance(lm, _OnFirstUse):
        lm.require()


def make_lm(declared: plan.LM) -> LM:
    """Return the LM that the spec names. Its weights are read, or litellm is imported, when it is first asked."""
    lm = _OnFirstUse(declared)
    if not declared.cache:
        return lm
    from lmprog.lms.cached import CachedLM

    return CachedLM(lm, declared)
