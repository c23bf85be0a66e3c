"""Access to a provider: its address, the key, the headers. Secrets among them appear in no message."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from lmprog.boundary.secret_forms import FROM_FILES, forms_of, secrets_of_address, without
from lmprog.compiler import plan
from lmprog.compiler.backends import VLLM_PREFIX
from lmprog.compiler.expressions.compiled import EvaluationError, Expression
from lmprog.compiler.routes import is_direct
from lmprog.errors import UsageError

OPENAI = "https://api.openai.com/v1"
WHERE = "in the environment, or in the file .env beside the program"
"""The places in which the commands look for variables."""
_SECRET_NAMES = ("_API_KEY", "_TOKEN", "_SECRET", "_SECRET_KEY", "_ACCESS_KEY", "_PASSWORD", "_CREDENTIALS")


@dataclass(frozen=True)
class Access:
    """The address (`base`, None: the provider's own), key and headers for an LM's API, evaluated from the spec and the
    environment.

    Its repr shows none of them.
    """

    base: str | None = field(repr=False)
    key: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    _secrets: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, declared: plan.LM, address: str | None = None) -> Access:
        """Return the access to an LM's API as the spec declares it: address, key and headers, with those of the environment
        where the spec has none. Raises UsageError where an environment variable that the spec names is not set, where
        OpenAI's own address is asked without a key, or where the key or a header holds a character that no header may hold.

        `address` is that of one server of a fleet (None, and not read, for an LM without one).
        """
        fleet = isinstance(declared.api_base, plan.Fleet)
        base = address if isinstance(declared.api_base, plan.Fleet) else _value(declared.api_base, declared)
        key = _header(_value(declared.api_key, declared), "api_key", declared)
        if declared.model.startswith(VLLM_PREFIX):
            base = base if fleet else base or address_in_environment(declared)
            key = key or os.environ.get("HOSTED_VLLM_API_KEY")
        elif declared.model.startswith("openai/"):
            key = key or os.environ.get("OPENAI_API_KEY")
            if declared.api_base is None and is_direct(declared):
                base = address_in_environment(declared) or OPENAI
            if base == OPENAI and not key:
                fix = f"set OPENAI_API_KEY {WHERE}, or write lms.{declared.id}.api_key"
                raise UsageError(f"the LM {declared.id!r} ({declared.model}) has no key; {fix}")
        headers = {
            name: _header(_value(written, declared), f"the header {name}", declared) or ""
            for name, written in declared.headers.items()
        }
        key = _header(key, "the key in the environment", declared)
        if base == OPENAI:
            account = {
                "OpenAI-Organization": _from_environment("OPENAI_ORGANIZATION", "OPENAI_ORG_ID"),
                "OpenAI-Project": _from_environment("OPENAI_PROJECT_ID"),
            }
            headers = {name: value for name, value in account.items() if value} | headers
        return cls(base.strip().rstrip("/") if base else None, key, headers, _secrets(base, key, headers))

    def hide(self, text: str) -> str:
        """Return the text with every secret in it (key, headers, secrets of the address, and of the environment) replaced
        by `[key]`.
        """
        return without(text, self._secrets, "[key]")


def address_in_environment(declared: plan.LM) -> str | None:
    """Return the server's address that the environment has for an LM whose spec names none: the value of
    PROVIDER_API_BASE, such as HOSTED_VLLM_API_BASE, or for OpenAI first of OPENAI_BASE_URL; None where neither is set,
    or both are blank.
    """
    prefix, slash, _ = declared.model.partition("/")
    provider = prefix if slash else "openai"
    first = ("OPENAI_BASE_URL",) if provider == "openai" else ()
    return _from_environment(*first, f"{provider.upper()}_API_BASE")


def _from_environment(*names: str) -> str | None:
    """Return the value of the first of these environment variables that is set and not blank; None where none is."""
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)


def _value(expression: Expression | None, declared: plan.LM) -> str | None:
    """Return a setting of an LM, read from the environment where the spec names a variable; None where the spec has no such
    setting. Raises UsageError for a variable that is not set.
    """
    if expression is None:
        return None
    try:
        return str(expression.evaluate({"env": os.environ}))
    except EvaluationError as error:
        said = str(error)
    raise UsageError(f"the LM {declared.id!r}: {said}; set the variable {WHERE}, and run the command again")


def _header(value: str | None, name: str, declared: plan.LM) -> str | None:
    """Return a setting that is sent as a header, without the blanks and line breaks around it; None for None.

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
    """Return the values that no message may show, in all forms in which they may be quoted: the key and the headers (None:
    no key), the secrets of the address (None: no address), and what the environment holds under the name of a key or from a
    .env file.
    """
    found = {value for name, value in os.environ.items() if name.upper().endswith(_SECRET_NAMES) and len(value) >= 8}
    # An address is needed in messages about it; a secret in one is found apart.
    found |= {value for value in FROM_FILES if len(value) >= 8 and "://" not in value}
    return forms_of(found | {key or "", *headers.values()} | secrets_of_address(base or ""))
