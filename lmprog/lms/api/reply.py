"""A reply in OpenAI's form, whole or in pieces, as a Completion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lmprog.compiler.model_table import Limits
from lmprog.lms.api.failures import TryFailed
from lmprog.lms.lm import Completion, ToolCall, Usage


def read(reply: Any, usd: float | None) -> Completion:
    """The first choice of a reply. Raises TryFailed, as for a passing reason, where it is none."""
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        text = _text(message.get("content")) or message.get("refusal") or ""
        calls = tuple(_tool_call(made) for made in message.get("tool_calls") or ())
        token_ids, logprobs = choice.get("token_ids"), _logprobs(choice.get("logprobs"))
        usage = usage_of(reply.get("usage"), usd)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        said = reply.get("error") if isinstance(reply, Mapping) else None
        words = f"it answered without a choice{': ' + json.dumps(said, default=str) if said else ''}"
        raise TryFailed(words, passing=True) from None
    if token_ids is not None and logprobs is not None and len(token_ids) != len(logprobs):
        logprobs = None
    return Completion(
        text=text,
        token_ids=token_ids,
        logprobs=logprobs if token_ids is not None else None,
        prompt_token_ids=reply.get("prompt_token_ids"),
        usage=usage,
        finish_reason=choice.get("finish_reason") or "stop",
        tool_calls=calls,
    )


def usage_of(used: Any, usd: float | None) -> Usage:
    """The tokens that a reply says it took."""
    if not used:
        return Usage(usd=usd)
    details = used.get("prompt_tokens_details") or {}
    return Usage(
        int(used.get("prompt_tokens") or 0),
        int(used.get("completion_tokens") or 0),
        usd,
        int(details.get("cached_tokens") or 0),
    )


def cost(reply: Any, prices: Limits) -> float | None:
    """US dollars of a reply at given prices for a token; None where they or the tokens are not known."""
    used = reply.get("usage") if isinstance(reply, Mapping) else None
    if not isinstance(used, Mapping) or prices.prompt_usd is None or prices.completion_usd is None:
        return None
    prompt, completion = used.get("prompt_tokens") or 0, used.get("completion_tokens") or 0
    return float(prompt * prices.prompt_usd + completion * prices.completion_usd)


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text") or "" for part in content)


def _logprobs(given: Any) -> list[float] | None:
    content = (given or {}).get("content")
    return None if content is None else [float(entry["logprob"]) for entry in content]


def _tool_call(made: Mapping[str, Any]) -> ToolCall:
    written = made["function"].get("arguments") or ""
    try:
        arguments = json.loads(written) if isinstance(written, str) else written
    except ValueError:
        arguments = None
    if not isinstance(written, str):
        written = json.dumps(written, ensure_ascii=False)
    # A tool without parameters is called by some with an empty text.
    arguments = {} if not written.strip() else arguments
    return ToolCall(
        str(made.get("id") or ""),
        made["function"]["name"],
        arguments if isinstance(arguments, dict) else None,
        written,
    )


class Pieces:
    """Puts the pieces of a streamed reply together."""

    def __init__(self) -> None:
        self.ended = False
        """Whether a piece said why the reply ends."""
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._token_ids: list[int] | None = None
        self._logprobs: list[Any] | None = None
        self._top: dict[str, Any] = {}
        self._finish: str | None = None

    def add(self, piece: Mapping[str, Any]) -> str:
        """Take the next piece, and give the text in it."""
        for name in ("usage", "prompt_token_ids"):
            if piece.get(name) is not None:
                self._top[name] = piece[name]
        if not piece.get("choices"):
            return ""
        choice = piece["choices"][0]
        delta = choice.get("delta") or {}
        text = _text(delta.get("content"))
        self._text.append(text)
        self._refusal.append(delta.get("refusal") or "")
        for part in delta.get("tool_calls") or ():
            self._add_call(part)
        if choice.get("token_ids") is not None:
            self._token_ids = [*(self._token_ids or ()), *choice["token_ids"]]
        content = (choice.get("logprobs") or {}).get("content")
        if content is not None:
            self._logprobs = [*(self._logprobs or ()), *content]
        if choice.get("finish_reason"):
            self._finish, self.ended = choice["finish_reason"], True
        return text

    def _add_call(self, part: Mapping[str, Any]) -> None:
        made = self._calls.setdefault(part.get("index") or 0, {"id": "", "function": {"name": "", "arguments": ""}})
        made["id"] = part.get("id") or made["id"]
        function = part.get("function") or {}
        made["function"]["name"] += function.get("name") or ""
        made["function"]["arguments"] += function.get("arguments") or ""

    def whole(self) -> dict[str, Any]:
        """The reply as if it had come in one."""
        message = {
            "content": "".join(self._text),
            "refusal": "".join(self._refusal),
            "tool_calls": [made for _, made in sorted(self._calls.items())],
        }
        logprobs = None if self._logprobs is None else {"content": self._logprobs}
        choice = {
            "message": message,
            "finish_reason": self._finish,
            "token_ids": self._token_ids,
            "logprobs": logprobs,
        }
        return {**self._top, "choices": [choice]}
