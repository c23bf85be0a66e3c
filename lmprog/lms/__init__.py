"""Who answers: a model in this process, or any that litellm reaches."""

from __future__ import annotations

import asyncio

from lmprog.compiler import plan
from lmprog.extras import needed_by
from lmprog.lms.lm import LM, Completion, Request, ToolCall, ToolOffer, Usage
from lmprog.lms.per_loop import PerLoop

__all__ = ["LM", "Completion", "Request", "ToolCall", "ToolOffer", "Usage", "make_lm"]


class _OnFirstUse:
    """Stands for an LM whose making is costly or needs a key, until it is asked."""

    def __init__(self, declared: plan.LM) -> None:
        self.declared = declared
        self._made: LM | None = None
        self._making = PerLoop(self._make_in_thread)

    @property
    def made(self) -> LM:
        if self._made is None:
            if self.declared.runs_here:
                with needed_by(f"{self.declared.model!r} runs in this process, which"):
                    from lmprog.lms.local import shared

                    self._made = shared(self.declared.model)
            else:
                from lmprog.lms.api import ApiLM

                self._made = ApiLM(self.declared)
        return self._made

    def _make_in_thread(self) -> asyncio.Future[LM]:
        from lmprog.threads import in_thread  # which asks this package for what belongs to one event loop

        return asyncio.ensure_future(in_thread(lambda: self.made))

    async def complete(self, request: Request) -> Completion:
        if self._made is None and not self.declared.runs_here:
            # To import litellm takes seconds, in which no other call's limit may run out.
            await asyncio.shield(self._making.get())
        return await self.made.complete(request)


def make_lm(declared: plan.LM) -> LM:
    """The LM that the spec names. Its weights are read, or litellm is imported, when it is first asked."""
    lm = _OnFirstUse(declared)
    if not declared.cache:
        return lm
    from lmprog.lms.cached import CachedLM

    return CachedLM(lm, declared)
