"""Where the models of other tools' files answer, in the names that litellm has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.imports.program import identifier, wrapped


@dataclass(frozen=True)
class Provider:
    """`prefix` of the model string; the environment variables of its key and, where it has none of its own, its address."""

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
"""By the name that the other file gives, in lower case without `_` and `-`."""

NO_MODEL = "gpt-4.1-mini"
"""Stands where a file names no model; the import says so."""


def provider(name: object) -> Provider | None:
    """The provider of that name; None where it is not known."""
    return PROVIDERS.get(str(name or "").lower().replace("_", "").replace("-", ""))


def lm(
    where: Provider, model: str, params: Mapping[str, Any], key: str | None = None, base: str | None = None
) -> dict[str, Any]:
    """An entry of `lms`; `key` is the environment variable of the key, `base` the address, where the file names them."""
    entry: dict[str, Any] = {"model": f"{where.prefix}/{model}"}
    if params:
        entry["params"] = dict(params)
    entry["api_key"] = wrapped(f"env.{key or where.key}")
    if base or where.base:
        entry["api_base"] = base or wrapped(f"env.{where.base}")
    return entry


def named(lms: dict[str, dict[str, Any]], entry: dict[str, Any], module: str) -> str:
    """The id of `entry` in `lms`: an equal one's, else a new one's, named by the model or, where that is taken, the module."""
    for id, other in lms.items():
        if other == entry:
            return id
    id = identifier(str(entry["model"]).rpartition("/")[2])
    id = f"{module}_lm" if id in lms else id
    lms[id] = entry
    return id


def number(value: Any) -> Any:
    """A parameter as a number where it is one in quotes."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
