"""The one way from a completion to what it says, for modules, agents, proposers and reflections alike."""

from __future__ import annotations

import asyncio

from lmprog.aio.threads import awaited_whole
from lmprog.compiler.findings.finding import shown_value
from lmprog.compiler.plan import Module
from lmprog.compiler.replies import reading, thinking
from lmprog.compiler.replies.denial import undecided
from lmprog.compiler.replies.ending import ending
from lmprog.compiler.replies.reading import Reading
from lmprog.compiler.replies.sections import read
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.lms.lm import Completion


def is_cut(completion: Completion) -> bool:
    """Return whether a reply ended because it reached its limit of tokens.

    Raises Unreadable for a reply without an answer: withheld by a content filter, refused, cut before its first character, or
    nothing but thinking.
    """
    text, ended = completion.text, ending(completion.finish_reason)
    other = "change the prompt or the input, or name another LM"
    if ended == "withheld":
        raise Unreadable(f"the provider's content filter withheld the reply ({completion.finish_reason}); {other}")
    refusal, thought = (
        _beside(completion, "refusal"),
        _beside(completion, "reasoning_content", "reasoning", "thinking_blocks"),
    )
    if refusal:
        raise Unreadable(f"the model refused to reply: {str(refusal)[:200]!r}; {other}")
    if ended == "cut" and not text.strip():
        raise Unreadable(
            "the reply was cut at its limit of tokens while the model was still thinking; raise max_tokens"
            if thought
            else "the reply was cut at its limit of tokens before it held an answer; raise max_tokens"
        )
    if thought and not text.strip() and not completion.tool_calls:
        raise Unreadable(
            "the reply holds the model's thinking and no answer; ask for less thinking, or raise max_tokens"
        )
    return ended == "cut"


def _beside(completion: Completion, *names: str) -> object:
    """Return the first value that is not empty among the fields `names` of the provider's own form of a reply; None where
    there is none."""
    return next((found for name in names if (found := (completion.message or {}).get(name))), None)


def read_reply(module: Module, completion: Completion) -> Reading:
    """Return a module's outputs, read from an LM's reply, with the repairs made. Raises Unreadable where the reply does not
    hold the outputs.
    """
    cut = is_cut(completion)
    return reading.read(module.format, module.outputs, completion.text, cut)


QUOTED = 20
"""Characters of a reply's start by which an error is found to quote it."""


def with_start(error: Unreadable, text: str) -> str:
    """Return the error's message with the start of the unreadable reply `text` (200 characters) added, or that the
    reply is empty, unless the message says so already."""
    start = " ".join(text[:200].split())
    if not start:
        return f"{error}; the reply is empty" if "empty" not in str(error) else str(error)
    quoted = any(mark + start[:QUOTED] in str(error) for mark in "\"'")
    return str(error) if quoted else f"{error}; the reply begins {shown_value(start)}"


LARGE = 100_000
"""Characters of a reply beyond which it is read beside the event loop, which then goes on with other calls."""


async def read_beside(module: Module, completion: Completion) -> Reading:
    """Do what `read_reply` does, in a thread where the reply is large, so that the event loop goes on. Raises Unreadable."""
    if len(completion.text) <= LARGE:
        return read_reply(module, completion)
    with awaited_whole():
        return await asyncio.to_thread(read_reply, module, completion)


def spoken(text: str) -> str:
    """Return the text of a reply without the model's thinking; empty where all of it is thinking, or thinking does not end."""
    try:
        return thinking.prose(text, []).strip()
    except Unreadable:
        return ""


def free_text(completion: Completion) -> str:
    """Return the text of a reply that has no format, such as a proposed instruction, without thinking and blanks around
    it.

    Raises Unreadable for one that is cut, refused, empty, or nothing but thinking.
    """
    if is_cut(completion):
        raise Unreadable(reading.CUT)
    text = thinking.prose(completion.text, []).strip()
    if not text:
        raise Unreadable("the reply is empty")
    return text


def section(name: str, completion: Completion) -> str:
    """Return the text of the section `name` of a reply, or the whole reply where it has no such section, without blanks
    around it; an empty section is empty.

    Raises Unreadable for a reply that ended without an answer or was cut within the section, and for one without the
    section that is cut, empty, or seems to refuse the request.
    """
    cut = is_cut(completion)
    found = read((name,), completion.text, [], cut)
    if name in found:
        return found[name].strip()
    text = free_text(completion)
    if undecided(text):
        raise Unreadable(f"the reply has no section {name}, and seems to refuse")
    return text
