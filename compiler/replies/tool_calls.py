"""Reading of tool calls that an LM writes as text in its reply, and of the arguments of any tool call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.replies import thinking
from lmprog.compiler.replies.loose_json import find, strict
from lmprog.compiler.replies.unreadable import Unreadable

MAX_CALLS = 200
"""Calls of one turn beyond which it is refused unread."""
_TAG = re.compile(r"</?call>")
_OPENING = re.compile(r"<call>")


@dataclass(frozen=True)
class Call:
    """A tool call as the LM wrote it: the tool's name, the arguments by name, and the text of the whole call (`written`).

    `problem` says why it cannot be read, as a sentence for the LM; None where it can. The tool's name is empty where not
    even that can be read.
    """

    tool: str
    arguments: Mapping[str, Any]
    written: str
    problem: str | None = None


def read(text: str, forgiven: list[str]) -> tuple[str, list[Call]]:
    """Return a reply up to the end of its tool calls, thinking included, and the calls; an empty text and no calls
    where it has none, so that it is a final answer.

    Text after the first group of calls is not read, since the LM wrote it without their results. Calls within thinking
    do not count; one that cannot be read is returned with its `problem`. Raises Unreadable for thinking that does not end,
    and for more than MAX_CALLS (200) calls. Repairs are added to `forgiven`.
    """
    tags = 0

    def take(opened: re.Match[str]) -> tuple[int, tuple[int, int, int, bool]]:
        nonlocal tags
        tags += 1
        if tags > MAX_CALLS:
            raise Unreadable(f"it holds more than {MAX_CALLS} calls")
        tag = _TAG.search(text, opened.end())
        stop = tag.start() if tag else len(text)
        closed = tag is not None and tag[0] == "</call>"
        return (tag.end() if tag and closed else stop), (opened.start(), opened.end(), stop, closed)

    calls: list[Call] = []
    end = 0
    for start, inner, stop, closed in thinking.regions(text, thinking.marks(text), _OPENING, take, forgiven):
        if calls and text[end:start].strip():
            break
        if not closed:
            forgiven.append("</call> is missing")
        calls.append(_call(text[inner:stop].strip(), forgiven, stop == len(text)))
        end = stop + len("</call>") if closed else stop
    if calls and text[end:].strip():
        forgiven.append("words after the calls")
    return text[:end], calls


def arguments(written: str, forgiven: list[str]) -> tuple[Mapping[str, Any], str | None]:
    """Return the arguments in the text of a tool call by name, and what is wrong with them as a sentence for the LM, or
    None. Repairs are added to `forgiven`.

    An empty text means no arguments, and so does `null`. With a sentence the arguments are empty: for text that is no JSON
    object, or one that is not closed, which may lack some.
    """
    text = written.strip()
    if text in ("", "null", "None", '""'):
        return {}, None
    try:
        found = find(text, "{", forgiven, cut=True, rank=bool)  # some servers begin with an empty object
    except (LookupError, ValueError, Unreadable) as error:
        inner = _quoted(text)
        if inner is not None:
            return arguments(inner, forgiven)
        said = f" ({error})" if str(error) else ""
        return {}, f"the arguments are no JSON object{said}: {written[:200]}"
    return found, None


def _quoted(text: str) -> str | None:
    """Return the JSON object within a JSON text, as of a library that writes its arguments twice; None where there is none."""
    try:
        inner = strict(text)
    except ValueError:
        return None
    return inner if isinstance(inner, str) and inner.lstrip().startswith("{") else None


def _call(written: str, forgiven: list[str], cut: bool) -> Call:
    """Return the tool call in the text between `<call>` and its end; with `cut`, where the reply ends, an open bracket is not
    closed for it."""
    try:
        found = find(written, "{", forgiven, cut)
    except (LookupError, ValueError) as error:
        said = f" ({error})" if isinstance(error, ValueError) else ""
        return Call("", {}, written, f"the call is no JSON object that can be read{said}")
    name, given = found.get("tool"), found.get("arguments", {})
    problem = None
    if isinstance(given, str) or given is None:
        given, problem = arguments(given or "", forgiven)
    if not isinstance(name, str) or not isinstance(given, dict):
        return Call("", {}, written, 'a call is {"tool": "name", "arguments": {...}}')
    return Call(name, given, written, problem)
