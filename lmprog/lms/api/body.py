"""Request bodies in OpenAI's names, which litellm takes too: parameters, reply schema, tools, cache marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from lmprog.compiler.types import pydantic_models
from lmprog.compiler.types.lattice import JSON, MESSAGES, ListOf, Object, Optional, Type, json_schema
from lmprog.lms.lm import Request

SEEDS = 2**31
"""Seeds in requests are below this number: servers differ in how large a seed they take, and all take these."""
TOKEN_IDS = {"return_token_ids": True, "logprobs": True}
"""Fields by which a server of vLLM is asked for the ids and log-probabilities of tokens."""
_EPHEMERAL = {"type": "ephemeral"}


def parameters(request: Request, *, structured: bool, seeded: bool) -> dict[str, Any]:
    """Return the fields of a request body, in OpenAI's names, other than model and messages: seed, tools, schema of the
    reply, and a stream where the request has `on_text`; the spec's `params` take precedence.

    `structured`: the provider takes a JSON schema for the reply, which is sent where the request has an output type and
    no tools. `seeded`: it takes a seed.
    """
    made: dict[str, Any] = {}
    if seeded and request.seed is not None:
        made["seed"] = request.seed % SEEDS
    if request.tools:
        made["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in request.tools
        ]
    elif structured and request.output_type is not None:
        # Not beside tools: a server that forces the schema upon each token lets no call of a tool through.
        made["response_format"] = _response_format(request.output_type)
    if request.on_text is not None:
        made["stream"] = True
        made["stream_options"] = {"include_usage": True}
    return {**made, **request.params}


@lru_cache(maxsize=256)
def _response_format(kind: Type) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": json_schema(kind), "strict": _is_closed(kind)},
    }


def _is_closed(kind: Type) -> bool:
    """Return whether a schema describes all its values, as `strict` requires: `json` and `messages` do not."""
    if isinstance(kind, Optional):
        return _is_closed(kind.inner)
    if isinstance(kind, ListOf):
        return _is_closed(kind.item)
    if isinstance(kind, Object) and kind.model is not None:
        return pydantic_models.is_closed(json_schema(kind))
    if isinstance(kind, Object):
        return all(_is_closed(inner) for _, inner in kind.fields)
    return kind not in (JSON, MESSAGES)


def marks_caches(model: str) -> bool:
    """Return whether a model's provider caches prompt beginnings only where the request marks them, as
    Anthropic's models want.
    """
    provider, _, name = model.rpartition("/")
    claude = "claude" in name or "anthropic" in model
    return claude and provider.partition("/")[0] in ("", "anthropic", "bedrock", "vertex_ai", "azure_ai", "openrouter")


def marked(messages: Sequence[Mapping[str, Any]], constant: tuple[int, int]) -> list[Mapping[str, Any]]:
    """Return the messages, in a new list, with a mark, at the end of the part that is the same for every row, up to
    which the provider should cache; without a mark where that part has no text.

    `constant` is (m, c): the first m messages and the first c characters of message m are that part. The message in
    which it ends is split there. A blank text cannot be marked, so the mark then goes before it.
    """
    whole, characters = constant
    with_mark = list(messages)
    if whole < len(with_mark) and characters > 0:
        parts = _marked_within(with_mark[whole].get("content"), characters)
        if parts is not None:
            with_mark[whole] = {**with_mark[whole], "content": parts}
            return with_mark
    for index in reversed(range(min(whole, len(with_mark)))):
        parts = _marked_at_end(with_mark[index].get("content"))
        if parts is not None:
            with_mark[index] = {**with_mark[index], "content": parts}
            break
    return with_mark


def _parts(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else [dict(part) for part in content or ()]


def _marked_within(content: Any, characters: int) -> list[dict[str, Any]] | None:
    """Return the parts of a message's content with a mark after `characters` characters of text, or None where nothing
    before that place can be marked.
    """
    parts = _parts(content)
    for index, part in enumerate(parts):
        text = part.get("text")
        if not isinstance(text, str):
            return _mark_last(parts, index)
        if len(text) > characters:
            head, tail = text[:characters], text[characters:]
            if not head.strip() or not tail.strip():
                return _mark_last(parts, index)
            halves = [{**part, "text": head, "cache_control": _EPHEMERAL}, {**part, "text": tail}]
            return [*parts[:index], *halves, *parts[index + 1 :]]
        characters -= len(text)
    return _mark_last(parts, len(parts))


def _marked_at_end(content: Any) -> list[dict[str, Any]] | None:
    parts = _parts(content)
    return _mark_last(parts, len(parts))


def _mark_last(parts: list[dict[str, Any]], end: int) -> list[dict[str, Any]] | None:
    """Mark the last of the first `end` parts that can be marked, in place; return the parts, or None where none can."""
    for index in reversed(range(end)):
        if parts[index].get("type") != "text" or parts[index]["text"].strip():
            parts[index] = {**parts[index], "cache_control": _EPHEMERAL}
            return parts
    return None
