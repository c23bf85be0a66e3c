"""Estimates in tokens without a tokenizer: of texts by their characters, of replies by the parameters of an LM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmprog.compiler.plan import LM

CHARACTERS_PER_TOKEN = 4.0
"""Average number of characters of a token, for estimates."""
MAX_CHARACTERS_PER_TOKEN = 6.0
"""Maximum number of characters of a token in ordinary text, for prompts that certainly do not fit."""
USUAL_REPLY = 256
"""Tokens of a reply where `max_tokens` does not say: the limit of a model in this process, and the estimate for others."""


def reply_limit(params: Mapping[str, Any]) -> int | None:
    """Return the most tokens of a reply that `params` allow, by `max_tokens`, else (where that is absent, null or 0)
    `max_completion_tokens`; None where they set no limit, or one that is no whole number."""
    written = params.get("max_tokens") or params.get("max_completion_tokens")
    return written if isinstance(written, int) else None


def reply_tokens(params: Mapping[str, Any]) -> int:
    """Return the tokens to assume for a reply: the most that `params` allow, or USUAL_REPLY (256) where they set no
    limit."""
    return reply_limit(params) or USUAL_REPLY


def reply_limit_of(lm: LM) -> int | None:
    """Return the most tokens of a reply of an LM, or of one that answers in its place, the largest limit of them: of a model
    in this process 256 where its parameters set none; None where a server decides it for one of them."""
    limits = [reply_tokens(each.params) if each.runs_here else reply_limit(each.params) for each in lm.answering]
    known = [limit for limit in limits if limit is not None]
    return max(known) if len(known) == len(limits) else None
