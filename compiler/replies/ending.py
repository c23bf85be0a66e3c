"""The reasons why a reply ended: the providers' names for them, mapped to a few kinds."""

from __future__ import annotations

from typing import Literal

Ending = Literal["whole", "cut", "withheld", "failed"]
_WORDS: dict[Ending, str] = {
    "cut": "length max_tokens max_output_tokens model_length model_context_window_exceeded token_limit",
    "withheld": "content_filter content_filtered safety refusal recitation prohibited_content blocklist spii "
    "guardrail_intervened sensitive image_safety",
    "failed": "error abort aborted cancelled canceled network_error timeout insufficient_system_resource error_toxic "
    "error_limit malformed_function_call",
}
_ENDINGS: dict[str, Ending] = {word: found for found, words in _WORDS.items() for word in words.split()}


def ending(finish_reason: str | None) -> Ending:
    """Return how a reply ended, from a provider's `finish_reason`: `whole`, `cut` (at its limit), `withheld` (by a
    filter or a refusal), or `failed` (an error of the provider).

    None and an unknown reason count as `whole`; case does not matter.
    """
    return _ENDINGS.get((finish_reason or "stop").lower(), "whole")
