"""Fine-tuning by providers: the price of a token of training, and what OpenAI's protocol asks of the rows."""

from __future__ import annotations

from lmprog.compiler.plan import LM, Plan

AS_OF = "2025-08-01"
"""The date of the prices in USD."""
USD = {
    "gpt-4.1-2025-04-14": 25.0,
    "gpt-4.1-mini-2025-04-14": 5.0,
    "gpt-4.1-nano-2025-04-14": 1.5,
    "gpt-4o-2024-08-06": 25.0,
    "gpt-4o-mini-2024-07-18": 3.0,
    "gpt-3.5-turbo-0125": 8.0,
    "gpt-3.5-turbo-1106": 8.0,
    "gpt-3.5-turbo": 8.0,
}
"""Price of a million tokens of supervised training at OpenAI in US dollars, by the name of the base model."""
LEAST_ROWS = 10
"""The fewest rows that OpenAI and Azure train on."""
MAX_BYTES = 512_000_000
"""The size in bytes of the largest file of rows that OpenAI and Azure take."""
MAX_TOKENS = 65_536
"""The length in tokens of the longest row that OpenAI and Azure train on whole; they cut longer ones."""
OLDER = {"gpt-3.5-turbo": 16_385, "gpt-35-turbo": 16_385}
"""The length in tokens of the longest row that older models take, in place of MAX_TOKENS, by the beginning of their names."""


def base_of(model: str) -> str:
    """Return the model that a fine-tuning job trains for an LM of this name: without the prefix, and for a tuned model
    (`ft:...`) its base.
    """
    name = model.partition("/")[2] or model
    return name.split(":")[1] if name.startswith("ft:") and name.count(":") else name


def tuned_name(lm: LM, model: str | None = None) -> str:
    """Return a name for the model that a job makes of an LM, in the form of OpenAI's with the LM's own prefix
    (`openai/ft:MODEL:tuned`), by which the table of models has its price. `model` is the model that the job trains
    (None: the base model of the LM)."""
    prefix, slash, _ = lm.model.rpartition("/")
    return f"{prefix}{slash}ft:{model or base_of(lm.model)}:tuned"


def most_tokens(model: str) -> int:
    """Return the length in tokens of the longest training row that OpenAI and Azure take whole for a base model, named
    without its prefix; MAX_TOKENS for one that is not in OLDER."""
    return next((most for name, most in OLDER.items() if model.startswith(name)), MAX_TOKENS)


def training_usd(lm: LM, model: str | None = None) -> float | None:
    """Return the price in US dollars of training on one token: the spec's, else, for an LM at OpenAI's own address, that
    of OpenAI's list (USD); None where it is unknown.

    `model` is the model that the job trains, where it is not the LM's own (None: it is).
    """
    written = (lm.price or {}).get("training")
    if written is not None:
        return written / 1e6
    at_openai = lm.model.partition("/")[0] == "openai" or "/" not in lm.model
    price = USD.get(model or base_of(lm.model)) if at_openai and lm.api_base is None else None
    return None if price is None else price / 1e6


def trained_by_providers(plan: Plan) -> dict[str, frozenset[str]]:
    """Return the LMs that jobs of providers would train, by `tune` of `optimize`: by LM id the ids of the modules on it
    whose weights are tuned; empty without `optimize`. Whether a stage begins such jobs is not looked at."""
    found: dict[str, set[str]] = {}
    for id, parts in plan.optimize.tune.items() if plan.optimize is not None else ():
        lm = plan.lms.get(plan.modules[id].lm)
        if "weights" in parts and lm is not None and lm.finetunes:
            found.setdefault(lm.id, set()).add(id)
    return {lm: frozenset(modules) for lm, modules in found.items()}
