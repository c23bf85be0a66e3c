"""Secrets in the encodings in which they may come back in a server's message, and their removal from texts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

FROM_FILES: set[str] = set()
"""Values of variables that the command line read from `.env` files, which count as secrets whatever their names are."""
MIN_SECRET = 4
"""Minimum characters of a text that is hidden as a secret; shorter ones would hide words that are none."""
LEAST_KEY = 16
"""Minimum characters of the user of an address that counts as a key; shorter ones are names, such as `openai`."""


def forms_of(values: Iterable[str]) -> tuple[str, ...]:
    """Return the secrets `values` in every encoding (JSON, URL, base64 and others) in which a server or library may write
    them, as they are among them, the longest first; forms of fewer than MIN_SECRET (4) characters are left out.

    Of a secret such as `Bearer abc` the part after the first blank counts as a secret too.
    """
    forms = {value for value in values if value}
    forms |= {value.partition(" ")[2].strip() for value in forms}
    forms |= {_base64(value) for value in forms}
    ways: tuple[Callable[[str], str], ...] = (
        lambda value: json.dumps(value)[1:-1],
        lambda value: repr(value)[1:-1],
        partial(quote, errors="replace"),
        partial(quote_plus, errors="replace"),
        partial(quote, safe="", errors="replace"),
    )
    forms |= {way(value) for way in ways for value in forms}
    return tuple(sorted((value for value in forms if len(value) >= MIN_SECRET), key=len, reverse=True))


def _base64(value: str) -> str:
    # Without the padding, which is left out in some places.
    return base64.b64encode(value.encode(errors="replace")).decode().rstrip("=")


def secrets_of_address(address: str) -> set[str]:
    """Return the secrets in an address, as written and decoded: the password, `user:password`, a user without a password
    if it is as long as a key (LEAST_KEY characters), and the values of its query; empty where it has none, or is no address."""
    try:
        parts = urlsplit(address)
        password = parts.password or ""
    except ValueError:
        return set()
    found = {value for _, value in parse_qsl(parts.query)}
    user = parts.username or ""
    if password:
        found |= {password, unquote(password), f"{unquote(user)}:{unquote(password)}"}
    elif len(user) >= LEAST_KEY:
        found |= {user, unquote(user)}
    return found


def without(text: str, secrets: Iterable[str], mark: str) -> str:
    """Return the text with each occurrence of one of the secrets, in the order given, replaced by `mark`; none of them may
    be empty."""
    for secret in secrets:
        text = text.replace(secret, mark)
    return text
