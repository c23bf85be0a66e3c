"""How a provider is reached: its address, the key, the headers. What is secret of it stands in no message."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from lmprog.compiler import plan
from lmprog.compiler.expressions import EvaluationError, Expression
from lmprog.errors import UsageError

SHORTEST_SECRET = 4
"""Characters; to hide less would blot out words that are no secret."""
_SECRET_NAMES = ("_API_KEY", "_TOKEN", "_SECRET", "_SECRET_KEY", "_ACCESS_KEY", "_PASSWORD", "_CREDENTIALS")


@dataclass(frozen=True)
class Access:
    """Evaluated from the spec; its repr shows none of it."""

    base: str | None = field(repr=False)
    key: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    _secrets: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, declared: plan.LM) -> Access:
        """Raises UsageError where the environment lacks a variable that the spec names."""
        base, key = (
            _value(declared.api_base, declared),
            _header(_value(declared.api_key, declared), "api_key", declared),
        )
        if declared.model.startswith("hosted_vllm/"):
            base = base or os.environ.get("HOSTED_VLLM_API_BASE")
            key = key or os.environ.get("HOSTED_VLLM_API_KEY")
        elif declared.model.startswith("openai/") and base is not None:
            key = key or os.environ.get("OPENAI_API_KEY")
        headers = {
            name: _header(_value(written, declared), f"the header {name}", declared) or ""
            for name, written in declared.headers.items()
        }
        key = _header(key, "the key in the environment", declared)
        return cls(base.strip().rstrip("/") if base else None, key, headers, _secrets(base, key, headers))

    def hide(self, text: str) -> str:
        """The text without any secret."""
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return text


def _value(expression: Expression | None, declared: plan.LM) -> str | None:
    """A setting of an LM, from the environment where the spec says so."""
    if expression is None:
        return None
    try:
        return str(expression.evaluate({"env": os.environ}))
    except EvaluationError as error:
        said = str(error)
    raise UsageError(f"the LM {declared.id!r}: {said}; set the variable in the environment and run the command again")


def _header(value: str | None, name: str, declared: plan.LM) -> str | None:
    """Return a setting that is sent as a header, without the blanks and line breaks around it.

    Raises UsageError where it holds a character that no header may hold; the value itself is not shown.
    """
    if value is None:
        return None
    value = value.strip()
    for place, character in enumerate(value, 1):
        if not " " <= character <= "~" and character != "\t":
            raise UsageError(
                f"the LM {declared.id!r}: {name} holds U+{ord(character):04X} as its character {place} of {len(value)}, "
                "which no HTTP header may hold; copy it again from the provider"
            )
    return value


def _secrets(base: str | None, key: str | None, headers: Mapping[str, str]) -> tuple[str, ...]:
    """What the spec names, what litellm may take from the environment by itself, and how either may be written in a reply."""
    found = {value for name, value in os.environ.items() if name.upper().endswith(_SECRET_NAMES) and len(value) >= 8}
    found |= {key or "", *headers.values()}
    # Of `Bearer abc` or `bearer abc`, `abc` alone is as secret.
    found |= {value.partition(" ")[2].strip() for value in headers.values()}
    if base is not None:
        address = urlsplit(base)
        found |= {address.password or "", unquote(address.password or "")}
        found |= {value for _, value in parse_qsl(address.query)}
    ways = (
        lambda value: json.dumps(value)[1:-1],
        lambda value: repr(value)[1:-1],
        quote,
        quote_plus,
        partial(quote, safe=""),
    )
    found |= {way(value) for way in ways for value in found}
    return tuple(sorted((value for value in found if len(value) >= SHORTEST_SECRET), key=len, reverse=True))
