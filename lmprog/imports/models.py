"""The model providers named in files of other tools, with litellm's names for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.imports.program import identifier, wrapped


@dataclass(frozen=True)
class Provider:
    """A model provider: the prefix of its model names, and the environment variables of its key and address (`base`,
    None: it has none)."""

    prefix: str
    key: str
    base: str | None = None


AZURE = Provider("azure", "AZURE_API_KEY", "AZURE_API_BASE")
OPENAI = Provider("openai", "OPENAI_API_KEY")
PROVIDERS = {
    "azure": AZURE,
    "azureopenai": AZURE,
    "azureserverless": Provider("azure_ai", "AZURE_AI_API_KEY", "AZURE_AI_API_BASE"),
    "serverless": Provider("azure_ai", "AZURE_AI_API_KEY", "AZURE_AI_API_BASE"),
    "foundry": Provider("azure_ai", "AZURE_AI_API_KEY", "AZURE_AI_API_BASE"),
    "openai": OPENAI,
    "anthropic": Provider("anthropic", "ANTHROPIC_API_KEY"),
}
"""Providers by their name in a file of another tool, in lower case without `_` and `-`."""

NO_MODEL = "gpt-4.1-mini"
"""The model of an LM for which the imported file names none; a note says so."""


def provider(name: object) -> Provider | None:
    """Return the provider of this name in another tool's file, whatever its case, `_` and `-`; None for an unknown name, or
    where there is none.
    """
    return PROVIDERS.get(str(name or "").lower().replace("_", "").replace("-", ""))


def lm(
    where: Provider, model: str, params: Mapping[str, Any], key: str | None = None, base: str | None = None
) -> dict[str, Any]:
    """Return an entry of `lms` of a spec, a mapping with `model` (with its provider's prefix), `params` (unless empty),
    `api_key` and `api_base`; the key is an expression that reads its variable.

    `key` is the environment variable of the key (None: the provider's usual one), `base` the address as the spec writes
    it (None: the environment variable of the provider's address, or no `api_base` where it has none).
    """
    entry: dict[str, Any] = {"model": f"{where.prefix}/{model}"}
    if params:
        entry["params"] = dict(params)
    entry["api_key"] = wrapped(f"env.{key or where.key}")
    if base or where.base:
        entry["api_base"] = base or wrapped(f"env.{where.base}")
    return entry


def named(lms: dict[str, dict[str, Any]], entry: dict[str, Any], module: str) -> str:
    """Return the id in `lms` of an LM equal to `entry`, which is added where there is none.

    A new LM is named after the last part of its model or, where that name is taken, `MODULE_lm` after the module, with
    a number where that is taken too.
    """
    for id, other in lms.items():
        if other == entry:
            return id
    id = identifier(str(entry["model"]).rpartition("/")[2])
    number = 1
    while id in lms:
        id, number = f"{module}_lm{f'_{number}' if number > 1 else ''}", number + 1
    lms[id] = entry
    return id


def number(value: Any) -> Any:
    """Return the parameter of a request as an int or float if it is a text that Python reads as one (`1e3`, also
    `nan`), else unchanged.
    """
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
