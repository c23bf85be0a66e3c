"""The prompts of a program for its first row, as a dry run makes them: no LM is asked, and no tool is called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Plan, Tool
from lmprog.compiler.prompts.messages import message_text
from lmprog.lms.fake import FakeLM, placeholder
from lmprog.runtime.program import Program
from lmprog.runtime.resources import Resources
from lmprog.tools.making import fake_tool

SECONDS = 5.0
"""The longest that a dry run may take: a person waits for it."""
LONGEST = 4000
"""Characters of a message that are shown."""


@dataclass(frozen=True)
class Prompt:
    """The messages of one LM call, each with `role` and `content`, with the path of its step, the id of its module, and in
    words the data row that its values come from."""

    step: str
    module: str
    messages: tuple[Mapping[str, Any], ...]
    row: str


class _NoTools(Resources):
    """Resources whose tools are all fakes: to index a corpus takes longer than an editor should wait for a hover."""

    def tool(self, tool: Tool) -> Callable[..., Any]:
        return fake_tool(tool)


def prompts(draft: Draft, plan: Plan) -> list[Prompt]:
    """Return the prompts of a program for its first local row, or for made-up values of its inputs' types where it has none, as
    a dry run makes them, in the order of the plan; no tool is called, and made-up values stand for results. Not to be called
    in a running event loop.

    Of a dry run that fails the prompts before its failure are returned. Raises TimeoutError where it takes longer than
    SECONDS (5).
    """
    split = next((name for name, rows in draft.rows.items() if rows), None)
    if split is not None:
        first = draft.rows[split][0]
        given = {name: first[name] for name in plan.inputs if name in first}
        row = f"row 0 of {split}"
    else:
        given, row = {}, "values that stand for the inputs, since no local row is named under `data:`"
    for name, field in plan.inputs.items():
        if name not in given and not field.has_default:
            given[name] = placeholder(name, field.type)
    fakes = {id: FakeLM() for id in plan.lms}
    program = Program(plan, fakes, lambda change: plan, _NoTools()).faked()

    async def run() -> list[Prompt]:
        result = await asyncio.wait_for(program.run(given), SECONDS)
        return [Prompt(made.path, made.module, tuple(made.messages), row) for made in result.trace]

    return asyncio.run(run())


def shown(prompt: Prompt) -> str:
    """Return a prompt as Markdown, each message below its role, cut after LONGEST (4,000) characters."""
    parts = [f"**Prompt** of `{prompt.step}` for {prompt.row}"]
    for message in prompt.messages:
        text = message_text(message)
        cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}\n... ({len(text):,} characters)"
        fence = "`" * max(3, _longest_run(cut) + 1)
        parts.append(f"{message['role']}:\n{fence}text\n{cut}\n{fence}")
    return "\n\n".join(parts)


def _longest_run(text: str) -> int:
    """Return the length of the longest run of backquotes in a text."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest
