"""Where instructions come from: the spec's own candidates, and an LM that writes new ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lmprog.compiler.plan import Module, Plan
from lmprog.lms.lm import LM, Request
from lmprog.seeds import derive


class Proposer(Protocol):
    """Instructions to try for a module, none of them the one that it has; fewer than `count` where it has no more."""

    async def propose(self, plan: Plan, module: Module, rows: Sequence[Mapping[str, Any]], count: int) -> list[str]: ...


class Given:
    """The candidates that stand in the spec under `optimize.instructions`; all of them, whatever the count."""

    async def propose(self, plan: Plan, module: Module, rows: Sequence[Mapping[str, Any]], count: int) -> list[str]:
        listed = plan.optimize.instructions.get(module.id, ()) if plan.optimize else ()
        return [text for text in listed if text.strip() != (module.instructions or "").strip()]


class Written:
    """Asks an LM for instructions, one request each, told what the program is for, what the module does, and a few rows."""

    def __init__(self, lm: LM, params: Mapping[str, Any], seed: int) -> None:
        self.lm, self.params, self.seed = lm, params, seed

    async def propose(self, plan: Plan, module: Module, rows: Sequence[Mapping[str, Any]], count: int) -> list[str]:
        found: list[str] = []
        for place in range(count):
            request = Request(
                messages=[{"role": "user", "content": self._question(plan, module, rows, found)}],
                params={"temperature": 1.0, **self.params},
                seed=derive(self.seed, "proposal", module.id, place),
                key=("proposal", module.id, place),
            )
            reply = (await self.lm.complete(request)).text
            tagged = re.search(r"<instructions>(.*?)(?:</instructions>|$)", reply, re.DOTALL)
            text = (tagged[1] if tagged else reply).strip()
            if text and text not in found and text != (module.instructions or "").strip():
                found.append(text)
        return found

    def _question(self, plan: Plan, module: Module, rows: Sequence[Mapping[str, Any]], found: Sequence[str]) -> str:
        signature = {
            "inputs": {name: str(field.type) for name, field in module.inputs.items()},
            "outputs": {name: str(field.type) for name, field in module.outputs.items()},
        }
        parts = [
            f"A program named {plan.name!r} is made of language-model calls. {plan.description or ''}".strip(),
            f"Its modules are: {', '.join(plan.modules)}. Write better instructions for the module {module.id!r}.",
            f"Its signature: {json.dumps(signature, ensure_ascii=False)}",
            f"Its instructions now: {module.instructions or '(none)'}",
            "Some rows of the program's data:",
            *(json.dumps(row, ensure_ascii=False, default=str)[:600] for row in rows[:4]),
        ]
        if found:
            parts += ["Proposed so far; write something different:", *found]
        parts.append("Reply with the new instructions between <instructions> and </instructions>. Name no single row.")
        return "\n\n".join(parts)
