"""Parsing of replies in OpenAI's form, whole or streamed, into Completions.

A server may send anything. What is needed to read the reply is refused where it has another shape; what is optional (usage,
log-probabilities, token ids) then counts as not sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.boundary.wire import count, listed, loads, mapping, text, token_ids, whole_text
from lmprog.compiler.model_table import Limits
from lmprog.compiler.replies.ending import ending
from lmprog.lms.api.failures import TryFailed, words_of
from lmprog.lms.lm import Completion, ToolCall, Usage

THINKING = frozenset({"thinking", "redacted_thinking", "reasoning"})
"""Types of parts of a message's content that are no part of the reply."""


def read(reply: Any, usd: float | None) -> Completion:
    """Return the Completion in a response of OpenAI's form, from its first choice.

    `usd` is its cost, None where unknown. Raises TryFailed, with `passing`, where the response has no choice with a
    message, where the reply broke off, or where its content is no text or a tool call in it has no name.
    """
    said = mapping(reply)
    choices = listed(said.get("choices"))
    choice = mapping(choices[0]) if choices else {}
    message = choice.get("message")
    if not isinstance(message, Mapping):
        error = said.get("error")
        words = f"it answered without a choice{': ' + words_of(json.dumps(error, default=str)) if error else ''}"
        raise TryFailed(words, passing=True)
    finish = choice.get("finish_reason")
    if ending(text(finish)) == "failed" or choice.get("error"):
        raise TryFailed(f"the reply broke off: {words_of(json.dumps(choice.get('error') or finish))}", passing=True)
    ids = token_ids(choice.get("token_ids"))
    logprobs = _logprobs(choice.get("logprobs"))
    if ids is None or logprobs is None or len(ids) != len(logprobs):
        logprobs = None
    return Completion(
        text=_content(message.get("content")),
        token_ids=ids,
        logprobs=logprobs,
        prompt_token_ids=token_ids(said.get("prompt_token_ids")),
        usage=usage_of(said.get("usage"), usd),
        finish_reason=text(finish) or "stop",
        tool_calls=tuple(_tool_call(made) for made in listed(message.get("tool_calls")) if made),
        message=_beside(message),
        model=text(said.get("model")) or None,
        id=text(said.get("id")) or None,
    )


def usage_of(used: Any, usd: float | None) -> Usage:
    """Return the token counts of a response's `usage`, with the cost `usd` in dollars (None: unknown); a count that is
    missing or no number is 0, and all are where there is no `usage`.
    """
    used = mapping(used)
    prompt = count(used.get("prompt_tokens"))
    cached = count(mapping(used.get("prompt_tokens_details")).get("cached_tokens"))
    reasoning = count(mapping(used.get("completion_tokens_details")).get("reasoning_tokens"))
    return Usage(prompt, count(used.get("completion_tokens")), usd, min(prompt, cached), reasoning)


def cost(reply: Any, prices: Limits) -> float | None:
    """Return the cost in US dollars of a reply, by `prices` for one token; None where the prices or the tokens are unknown.

    Prompt tokens that the provider had cached cost `prices.cached_usd`, where that is known.
    """
    used = mapping(reply).get("usage")
    if not isinstance(used, Mapping) or prices.prompt_usd is None or prices.completion_usd is None:
        return None
    usage = usage_of(used, None)
    cached_usd = prices.prompt_usd if prices.cached_usd is None else prices.cached_usd
    prompt = (usage.prompt_tokens - usage.cached_tokens) * prices.prompt_usd + usage.cached_tokens * cached_usd
    return prompt + usage.completion_tokens * prices.completion_usd


def _content(content: Any) -> str:
    """Return the text of a message, without its parts of thinking; empty for None. Raises TryFailed for what is neither
    text nor a list of parts.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list | tuple):
        raise TryFailed(f"it answered with a content that is no text: {json.dumps(content)[:200]}", passing=True)
    return "".join(_part(part) for part in content)


def _part(part: Any) -> str:
    said = part.get("text") if isinstance(part, Mapping) else part
    if mapping(part).get("type") in THINKING or said is None:
        return ""
    if not isinstance(said, str):
        raise TryFailed(f"it answered with a content that is no text: {json.dumps(part)[:200]}", passing=True)
    return said


def _logprobs(given: Any) -> list[float] | None:
    content = mapping(given).get("content")
    if not isinstance(content, list):
        return None
    found = [mapping(entry).get("logprob") for entry in content]
    numbers = [float(value) for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
    return numbers if len(numbers) == len(found) else None


def _tool_call(made: Any) -> ToolCall:
    function = mapping(mapping(made).get("function"))
    name = function.get("name")
    if not isinstance(name, str):
        raise TryFailed(f"it called a tool without a name: {json.dumps(made)[:200]}", passing=True)
    written = function.get("arguments")
    try:
        # A tool without parameters is called by some with an empty text.
        arguments = loads(written or "{}") if isinstance(written, str) else written or {}
    except ValueError:
        arguments = None
    if not isinstance(written, str):
        written = "" if written is None else json.dumps(written, ensure_ascii=False)
    if not written.strip():
        arguments = {}
    return ToolCall(
        text(mapping(made).get("id")), name, arguments if isinstance(arguments, dict) else None, whole_text(written)
    )


def _beside(message: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the message as it came, where it holds more than words and plain calls (reasoning, signatures, a refusal);
    None where it does not.
    """
    plain = {"role", "content", "tool_calls"}
    more = any(_says(value) for name, value in message.items() if name not in plain)
    parts = isinstance(message.get("content"), list)
    signed = any(set(mapping(made)) - {"id", "type", "index", "function"} for made in listed(message.get("tool_calls")))
    return dict(message) if more or parts or signed else None


def _says(value: Any) -> bool:
    """Return whether a field holds anything: some libraries name all that they know, with nothing in it."""
    if isinstance(value, Mapping):
        return any(_says(inner) for inner in value.values())
    return value not in (None, "", [], ())


class Pieces:
    """The pieces (deltas) of a streamed reply, collected into one message."""

    def __init__(self) -> None:
        self.ended = False
        """True once a piece has said why the reply ends."""
        self.any = False
        """True once a piece of the reply has come."""
        self._message: dict[str, Any] = {}
        self._calls: list[dict[str, Any]] = []
        self._token_ids: list[int] | None = []
        self._logprobs: list[Any] | None = None
        self._top: dict[str, Any] = {}
        self._finish: str | None = None

    def add(self, piece: Mapping[str, Any]) -> str:
        """Add the next piece, and return the reply's text in it, without thinking (empty: it has none). Raises
        TryFailed for a content that is no text.
        """
        for name in ("usage", "prompt_token_ids", "model", "id"):
            if piece.get(name) is not None:
                self._top[name] = piece[name]
        choices = listed(piece.get("choices"))
        if not choices:
            return ""
        self.any = True
        choice = mapping(choices[0])
        delta = mapping(choice.get("delta"))
        said = _content(delta.get("content"))
        for name, value in delta.items():
            if name == "tool_calls":
                for part in listed(value):
                    self._add_call(mapping(part))
            elif name != "role" and value is not None:
                self._message[name] = joined(self._message.get(name), said if name == "content" else value)
        ids = token_ids(choice.get("token_ids"))
        if choice.get("token_ids") is not None:
            self._token_ids = None if ids is None or self._token_ids is None else [*self._token_ids, *ids]
        content = mapping(choice.get("logprobs")).get("content")
        if isinstance(content, list):
            self._logprobs = [*(self._logprobs or ()), *content]
        if text(choice.get("finish_reason")):
            self._finish, self.ended = choice["finish_reason"], True
        return said

    def _add_call(self, part: Mapping[str, Any]) -> None:
        function = mapping(part.get("function"))
        id, name, index = text(part.get("id")), text(function.get("name")), part.get("index")
        made = self._call(id, name, index)
        if made is None:
            made = {"index": index, "id": "", "function": {"name": "", "arguments": ""}}
            self._calls.append(made)
        made["id"] = made["id"] or id
        own = made["function"]
        # Some servers send the whole name again with each piece.
        own["name"] = own["name"] if name == own["name"] else own["name"] + name
        own["arguments"] = joined(own["arguments"] or None, function.get("arguments")) or ""
        for extra, value in part.items():
            if extra not in ("index", "id", "function") and value is not None:
                made[extra] = value

    def _call(self, id: str, name: str, index: Any) -> dict[str, Any] | None:
        """Return the call that a piece continues; None where it begins one.

        A piece with another id and a name begins a call, whatever its index: some servers number every call 0, or none.
        Without an id a name after whole arguments begins one too.
        """
        numbered = isinstance(index, int) and not isinstance(index, bool)
        same = [made for made in self._calls if not numbered or made["index"] == index]
        if id and (known := [made for made in same if made["id"] == id]):
            return known[-1]
        last = same[-1] if same else None
        if last is None or not name or not last["function"]["name"]:
            return last
        if id and last["id"]:
            return None
        return None if not numbered and _is_whole(last["function"]["arguments"]) else last

    def whole(self) -> dict[str, Any]:
        """Return the collected reply in the form of a response that was not streamed: `choices` with one entry
        (`message`, `finish_reason`, `token_ids`, `logprobs`), and the other fields as they came."""
        calls = [{name: value for name, value in made.items() if name != "index"} for made in self._in_order()]
        choice = {
            "message": {"content": "", **self._message, "tool_calls": calls},
            "finish_reason": self._finish,
            "token_ids": self._token_ids or None,
            "logprobs": None if self._logprobs is None else {"content": self._logprobs},
        }
        return {**self._top, "choices": [choice]}

    def _in_order(self) -> Sequence[dict[str, Any]]:
        """Return the calls by their numbers where all have one of their own, else as they came."""
        numbers = [made["index"] for made in self._calls]
        if all(isinstance(number, int) for number in numbers) and len(set(numbers)) == len(numbers):
            return sorted(self._calls, key=lambda made: made["index"])
        return self._calls


def joined(before: Any, piece: Any) -> Any:
    """Return the value of one field of a streamed message, `before`, with its next `piece`: texts are concatenated,
    mappings merged key by key, and lists appended, where a block that goes on with the last one (of the same type and
    index, which has no signature yet) is merged into it. Where one of the two is None it is the other, and where they
    are numbers or of different kinds, it is the piece.
    """
    if piece is None or before is None:
        return before if piece is None else piece
    if isinstance(before, str) and isinstance(piece, str):
        return before + piece
    if isinstance(before, list) and isinstance(piece, list):
        blocks = list(before)
        for block in piece:
            if blocks and _continues(blocks[-1], block):
                texts = {k: v for k, v in block.items() if k not in ("type", "id", "format", "index")}
                blocks[-1] = {**blocks[-1], **{k: joined(blocks[-1].get(k), v) for k, v in texts.items()}}
            else:
                blocks.append(block)
        return blocks
    if isinstance(before, Mapping) and isinstance(piece, Mapping):
        return {**before, **{name: joined(before.get(name), value) for name, value in piece.items()}}
    return piece


def _continues(block: Any, piece: Any) -> bool:
    """Return whether `piece` goes on with `block`, the last block of thinking: both are of one type and index, and the
    block has no signature yet, which ends it.
    """
    if not isinstance(block, Mapping) or not isinstance(piece, Mapping):
        return False
    same = all(block.get(name) == piece.get(name) for name in ("type", "index"))
    return same and not block.get("signature")


def _is_whole(arguments: Any) -> bool:
    if not isinstance(arguments, str):
        return True
    try:
        loads(arguments)
    except ValueError:
        return False
    return True
