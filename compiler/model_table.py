"""Context windows and prices: what the spec says, else what the table that litellm carries says."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lmprog.compiler.plan import LM

EMBEDDED_CONTEXT = 8192
"""Positions of SmolLM2-135M."""


@dataclass(frozen=True)
class Limits:
    """Context window and longest reply in tokens, and prices in US dollars for a token; None where unknown."""

    context: int | None
    prompt_usd: float | None
    completion_usd: float | None
    reply: int | None = None
    cached_usd: float | None = None
    """For a token of the prompt that the provider had kept from an earlier call."""


def limits(lm: LM) -> Limits:
    """The limits of one LM. A model in this process costs nothing."""
    price = lm.price or {}
    prompt = price["input"] / 1e6 if "input" in price else None
    completion = price["output"] / 1e6 if "output" in price else None
    cached = price["cached"] / 1e6 if "cached" in price else None
    if lm.runs_here:
        context = lm.context or (EMBEDDED_CONTEXT if lm.model.startswith("embedded/") else None)
        return Limits(context, prompt or 0.0, completion or 0.0, cached_usd=cached)
    if lm.context is not None and prompt is not None and completion is not None:
        return Limits(lm.context, prompt, completion, cached_usd=cached)
    known = entry_of(lm.model)
    return Limits(
        lm.context or known.get("max_input_tokens"),
        prompt if prompt is not None else known.get("input_cost_per_token"),
        completion if completion is not None else known.get("output_cost_per_token"),
        known.get("max_output_tokens"),
        # A price of the table is not one of the spec: the table's discount goes with the table's price alone.
        cached if cached is not None or prompt is not None else known.get("cache_read_input_token_cost"),
    )


@lru_cache(maxsize=64)
def entry_of(model: str) -> dict[str, Any]:
    """The entry of a model. Only its own part of the large file is parsed, and litellm is not imported."""
    text = _table()
    for name in (model, model.partition("/")[2]):
        start = text.find(f'"{name}": {{') if name else -1
        if start >= 0:
            try:
                found, _ = json.JSONDecoder().raw_decode(text, start + len(f'"{name}": '))
            except ValueError:
                continue
            return found if isinstance(found, dict) else {}
    return {}


@lru_cache(maxsize=16)
def names_of(provider: str) -> frozenset[str]:
    """The models of a provider that the table names, without the provider's name."""
    mark = f'"litellm_provider": "{provider}"'
    entries = (entry for entry in _table().split("\n    },\n") if mark in entry)
    return frozenset(entry.lstrip(' {\n"').partition('"')[0].removeprefix(f"{provider}/") for entry in entries)


@lru_cache(maxsize=1)
def _table() -> str:
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        return ""
    try:
        return (Path(spec.origin).parent / "model_prices_and_context_window_backup.json").read_text("utf-8")
    except OSError:
        return ""
