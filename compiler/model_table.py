"""Context windows and prices of models: from the spec, else from a table of models.

The table is litellm's where litellm is installed, else `model_prices.json`, which holds the models of a few providers as of its
date. `python -m lmprog.compiler.model_table` writes that file anew from litellm's table.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from lmprog.compiler.backends import backend_of
from lmprog.compiler.plan import BATCH_SHARE, LM

OURS = Path(__file__).with_name("model_prices.json")
PROVIDERS = ("openai", "anthropic", "gemini", "mistral", "deepseek", "xai", "groq", "cohere_chat")
"""Providers whose models are in `model_prices.json`."""
KEYS = (
    "litellm_provider", "mode", "max_input_tokens", "max_output_tokens", "input_cost_per_token", "output_cost_per_token",
    "cache_read_input_token_cost", "supports_function_calling",
)  # fmt: skip
EMBEDDED_CONTEXT = 8192
"""Positions of SmolLM2-135M."""


N = TypeVar("N", int, float)


@dataclass(frozen=True, eq=False)
class Limits:
    """The context window (`context`) and longest `reply` of an LM in tokens, and prices in US dollars a token: of the
    prompt (`prompt_usd`), of a part of it that the provider had cached (`cached_usd`), and of the reply
    (`completion_usd`); None where unknown."""

    context: int | None
    prompt_usd: float | None
    completion_usd: float | None
    reply: int | None = None
    cached_usd: float | None = None
    """US dollars for a token of the prompt that the provider cached in an earlier call."""


def limits(lm: LM) -> Limits:
    """Return the limits of an LM and of those that may answer in its place, taken together: the least context that is
    known (None where none is), the highest prices and the longest reply, each of these None where that of one LM is
    unknown.
    """
    if len(lm.answering) == 1:
        return own_limits(lm)
    all_of = [own_limits(each) for each in lm.answering]
    return Limits(
        min((each.context for each in all_of if each.context is not None), default=None),
        _dearest([each.prompt_usd for each in all_of]),
        _dearest([each.completion_usd for each in all_of]),
        _dearest([each.reply for each in all_of]),
        _dearest([each.cached_usd for each in all_of]),
    )


def _dearest(values: Sequence[N | None]) -> N | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def own_limits(lm: LM) -> Limits:
    """Return the limits of one LM alone, from the spec, else from the table of models. A model in this process, or on a
    server of one's own, costs nothing where the spec sets no price; of an LM whose calls wait for batches all prices,
    those of the spec too, are multiplied by BATCH_SHARE.
    """
    found = _single(lm)
    if not lm.batch:
        return found
    shares = {name: value * BATCH_SHARE for name in _PRICES if (value := getattr(found, name)) is not None}
    return replace(found, **shares)


_PRICES = ("prompt_usd", "completion_usd", "cached_usd")


def _single(lm: LM) -> Limits:
    price = lm.price or {}
    prompt = price["input"] / 1e6 if "input" in price else None
    completion = price["output"] / 1e6 if "output" in price else None
    cached = price["cached"] / 1e6 if "cached" in price else None
    if lm.runs_here or lm.backend.self_hosted:
        known = EMBEDDED_CONTEXT if lm.model.startswith("embedded/") else entry_of(lm.model).get("max_input_tokens")
        return Limits(lm.context or known, prompt or 0.0, completion or 0.0, cached_usd=cached)
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
    """Return the entry of a model in the price table, a mapping with litellm's keys (`input_cost_per_token`,
    `max_input_tokens`, ...), which must not be changed; empty where it has none. litellm is not imported.

    The model is looked up by its whole name, then, unless a server of one's own serves it, without its prefix, and if it is
    tuned (`ft:...`), by its base.
    """
    text = _table()
    own = model.partition("/")[2] if not backend_of(model).self_hosted else ""
    # A tuned model (ft:BASE:ORGANIZATION::ID) is in the table by its base alone.
    base = ":".join((own or model).split(":")[:2]) if (own or model).startswith("ft:") else ""
    for name in (model, own, base):
        start = text.find(f'"{name}": {{') if name else -1
        if start >= 0:
            try:
                found, _ = json.JSONDecoder().raw_decode(text, start + len(f'"{name}": '))
            except ValueError:
                continue
            return found if isinstance(found, dict) else {}
    return {}


def takes_no_tools(model: str) -> bool:
    """Return whether the table of models says that the API of a model takes no tools; False where it says nothing."""
    return entry_of(model).get("supports_function_calling") is False


@lru_cache(maxsize=16)
def names_of(provider: str) -> frozenset[str]:
    """Return the names of a provider's models in the table, without the prefix; empty for a provider that it lacks.
    `provider` is a name of litellm, such as `openai`."""
    mark = f'"litellm_provider": "{provider}"'
    entries = (entry for entry in _table().split("\n    },\n") if mark in entry)
    return frozenset(entry.lstrip(' {\n"').partition('"')[0].removeprefix(f"{provider}/") for entry in entries)


@lru_cache(maxsize=1)
def _table() -> str:
    return _litellms() or OURS.read_text("utf-8")


def _litellms() -> str:
    try:
        spec = importlib.util.find_spec("litellm")
    except ImportError:
        return ""
    if spec is None or spec.origin is None:
        return ""
    try:
        return (Path(spec.origin).parent / "model_prices_and_context_window_backup.json").read_text("utf-8")
    except OSError:
        return ""


def written_table(of: str) -> str:
    """Return the text of lmprog's own price table, made from the text `of` of litellm's table, in the same layout: the
    chat models of PROVIDERS with KEYS alone, and today's date."""
    made: dict[str, Any] = {"our table": {"as_of": f"{datetime.now(UTC):%Y-%m-%d}"}}
    for name, entry in json.loads(of).items():
        if entry.get("litellm_provider") in PROVIDERS and entry.get("mode") in ("chat", "responses"):
            # A capability says something where it is false alone.
            made[name] = {key: entry[key] for key in KEYS if entry.get(key) not in (None, True)}
    return json.dumps(made, indent=4) + "\n"


if __name__ == "__main__":
    from lmprog.compiler.yaml.whole_file import write_whole

    write_whole(OURS, written_table(_litellms()))
