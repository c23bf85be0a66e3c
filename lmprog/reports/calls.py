"""LM and tool calls as short texts for pages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.prompts.messages import message_text
from lmprog.traces.record import Invocation, Record

LENGTH = 4000
"""The most characters of a text that a page shows."""


@dataclass(frozen=True)
class ShownCall:
    """An LM or tool call as a page shows it: the path of its step, its module and weights or its tool (`what`), time, tokens
    and cost as text (`facts`), and its texts (messages and reply, or arguments and result) by heading in reading order
    (`parts`), each shortened to 4,000 characters.

    `error` says why the call failed; None where it did not.
    """

    path: str
    what: str
    facts: str
    parts: Mapping[str, str]
    error: str | None


def shown_calls(records: Iterable[Record]) -> list[ShownCall]:
    """Return LM and tool calls (records of a run) as a page shows them, in their order."""
    return [_lm(made) if isinstance(made, Invocation) else _tool(made) for made in records]


def _lm(made: Invocation) -> ShownCall:
    """Return an LM call as a page shows it."""
    facts = [_seconds(made.seconds)]
    if made.usage is not None:
        facts.append(f"{made.usage.prompt_tokens:,} + {made.usage.completion_tokens:,} tokens")
        if made.usage.usd:
            facts.append(f"${made.usage.usd:.4f}")
    facts += ["from the cache"] if made.cached else []
    facts += [f"answered by {made.lm}"] if made.lm is not None else []
    facts += [f"try {made.attempt + 1}"] if made.attempt else []
    parts = {
        f"{number}. {message['role']}": cut(message_text(message)) for number, message in enumerate(made.messages, 1)
    }
    for id, said in made.passed_over.items():
        parts[f"no reply of {id}"] = cut(said)
    if made.text:
        parts["reply"] = cut(made.text)
    for call in made.tool_calls:
        parts[f"calls {call.name}"] = cut(as_text(call.arguments))
    if made.outputs is not None:
        parts["read as"] = cut(as_text(made.outputs))
    if made.forgiven:
        parts["forgiven"] = ", ".join(made.forgiven)
    return ShownCall(_path(made), f"{made.module}, {made.weights}", ", ".join(facts), parts, made.error)


def _tool(made: Any) -> ShownCall:
    """Return a tool call as a page shows it."""
    parts = {"arguments": cut(as_text(made.arguments))}
    if made.error is None:
        parts["result"] = cut(as_text(made.result))
    return ShownCall(_path(made), f"tool {made.tool}", _seconds(made.seconds), parts, made.error)


def _path(made: Record) -> str:
    """Return the path of a call's step from the outermost program on."""
    return f"{made.parent}/{made.path}" if made.parent else made.path


def _seconds(seconds: float) -> str:
    """Return a time as text, in milliseconds below a second."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def as_text(value: Any) -> str:
    """Return a value for a reader: a text unchanged, anything else as indented JSON, in which `str` stands for what
    JSON cannot hold."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)


def cut(text: str) -> str:
    """Return a text; of one with more than LENGTH (4,000) characters the first of them, with the number of all."""
    return text if len(text) <= LENGTH else f"{text[:LENGTH]}… ({len(text):,} characters)"
