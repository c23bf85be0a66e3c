"""Sources of instructions: the spec's own candidates, and an LM that writes new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lmprog.compiler.plan import Module, Plan
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.lms.lm import LM, Request
from lmprog.optimizers.strategies import grounding
from lmprog.optimizers.strategies.grounding import Tried
from lmprog.runtime.replies import section
from lmprog.seeds import derive

WAYS = (
    "Be plain and short.",
    "Say step by step how to find the answer, without asking for it to be written down.",
    "Say what is easily mistaken, and how to tell it apart.",
    "Say exactly what the reply must look like.",
    "Write for a very small model: simple words, the most important thing last.",
)
"""Hints that make proposals differ, one for each in turn."""


class Proposer(Protocol):
    """The interface of a source of new instructions for a module."""

    async def propose(
        self, plan: Plan, module: Module, rows: Sequence[Mapping[str, Any]], count: int, tried: Tried = ()
    ) -> list[str]:
        """Return instructions to try for a module of `plan`, none of them the module's present one; perhaps none. A
        source that writes them returns at most `count`, one that has them (SpecCandidates) all.

        `rows` are train rows to describe the data by, `tried` are earlier instructions with their scores. An LM that
        fails raises ProviderError, and a spent budget BudgetExceeded.
        """


class SpecCandidates:
    """A proposer that returns the instructions listed in the spec under `optimize.instructions`, all of them whatever `count`
    is, but the module's present ones.
    """

    async def propose(
        self, plan: Plan, module: Module, rows: Sequence[Mapping[str, Any]], count: int, tried: Tried = ()
    ) -> list[str]:
        listed = plan.optimize.instructions.get(module.id, ()) if plan.optimize else ()
        return [text for text in listed if text.strip() != (module.instructions or "").strip()]


class LMProposer:
    """A proposer that sends an LM one request for each instruction, one after the other, with a prompt about the
    program, the module, the data and earlier attempts, those just made too.

    `params` are the LM's own parameters; temperature is 1.0 where they set none. Draws follow from `seed`. A reply without
    instructions, or with some that were proposed before, gives none, so that there may be fewer than asked for.
    """

    def __init__(self, lm: LM, params: Mapping[str, Any], seed: int) -> None:
        self.lm, self.params, self.seed = lm, params, seed

    async def propose(
        self, plan: Plan, module: Module, rows: Sequence[Mapping[str, Any]], count: int, tried: Tried = ()
    ) -> list[str]:
        known = {(module.instructions or "").strip(), *(text for text, _ in tried)}
        found: list[str] = []
        for place in range(len(tried), len(tried) + count):
            request = Request(
                messages=[{"role": "user", "content": _question(plan, module, rows, tried, found, place)}],
                params={"temperature": 1.0, **self.params},
                seed=derive(self.seed, "proposal", module.id, place),
                key=("proposal", module.id, place),
            )
            try:
                text = section("instructions", await self.lm.complete(request))
            except Unreadable:
                continue
            if text and text not in found and text not in known:
                found.append(text)
        return found


def _question(
    plan: Plan, module: Module, rows: Sequence[Mapping[str, Any]], tried: Tried, found: Sequence[str], place: int
) -> str:
    parts = [
        grounding.program(plan),
        f"Write better instructions for the module {module.id!r} of it.",
        grounding.module(module),
        grounding.data(rows),
    ]
    if tried:
        parts += [grounding.scores(tried), "Write instructions that score better than all of these."]
    if found:
        parts += ["Proposed just now; write something different:", *found]
    parts.append(f"Name no single row. {WAYS[place % len(WAYS)]}")
    parts.append("Reply with the new instructions between <instructions> and </instructions>.")
    return "\n\n".join(parts)
