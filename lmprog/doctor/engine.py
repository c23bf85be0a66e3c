"""The speed of the engine on this machine: tokens that the built-in model reads and writes in a second."""

from __future__ import annotations

import asyncio
import time

from lmprog.compiler.plan import LM
from lmprog.doctor.line import Line
from lmprog.extras import needed_by
from lmprog.lms.embedded import NAME
from lmprog.lms.lm import Request

PROMPTS = 8
"""Prompts at a time, as many as a small evaluation has."""
WORDS = 250
NEW_TOKENS = 32


def speed() -> Line:
    """Measure the speed of the built-in model on this machine, which takes some seconds; return a line with the tokens a
    second of prompts and of replies.

    The model is downloaded and loaded first where that is needed. Raises MissingExtra where a package of the engine is not
    installed, InfrastructureError where the download fails.
    """
    with needed_by("the engine"):
        from lmprog.lms.local import make
    lm = make(LM("lm", NAME, {"max_tokens": NEW_TOKENS}))

    def seconds(new_tokens: int, mark: str) -> tuple[float, int, int]:
        async def ask() -> list[object]:
            requests = [
                Request([{"role": "user", "content": f"{mark} {place} " + "word " * WORDS}], {"max_tokens": new_tokens})
                for place in range(PROMPTS)
            ]
            return list(await asyncio.gather(*(lm.complete(request) for request in requests)))

        began = time.perf_counter()
        replies = asyncio.run(ask())
        took = time.perf_counter() - began
        usages = [reply.usage for reply in replies]  # type: ignore[attr-defined]
        return took, sum(usage.prompt_tokens for usage in usages), sum(usage.completion_tokens for usage in usages)

    seconds(1, "warm")
    reading, prompts, _ = seconds(1, "read")
    both, _, written = seconds(NEW_TOKENS, "write")
    writing = max(both - reading, 1e-9)
    said = (
        f"reads {prompts / reading:,.0f} and writes {written / writing:,.0f} tokens a second "
        f"({PROMPTS} prompts of {prompts // PROMPTS} tokens at a time, {both + reading:.1f} s)"
    )
    return Line("Engine", NAME, "ok", said)
