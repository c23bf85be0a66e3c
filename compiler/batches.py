"""Batches of providers: requests that are answered within a day, at a lower price; the LMs whose calls can wait for one."""

from __future__ import annotations

from lmprog.compiler.plan import LM, Fleet
from lmprog.compiler.routes import is_direct


def no_batches(lm: LM) -> str | None:
    """Return why the calls of an LM cannot wait for a batch of its provider, as a sentence after its name; None where
    they can.
    """
    if lm.runs_here:
        return "runs in this process, where there is no provider to wait for"
    if lm.model.startswith("openai/") and is_direct(lm) and not isinstance(lm.api_base, Fleet):
        return None
    known = "the protocol of OpenAI (models openai/..., at one address)"
    return f"has no batches that lmprog knows how to ask for: it knows {known}"
