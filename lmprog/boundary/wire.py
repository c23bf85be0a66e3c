"""Readers of JSON and headers from servers: ValueError for unreadable data, an empty value for data of another shape."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from lmprog.compiler.types.lattice import MAX_DEPTH, deeper

TOO_DEEP = f"the JSON is nested deeper than {MAX_DEPTH}"
MAX_DIGITS = 400
"""Maximum digits of a whole number that is read; one with more is read as an infinite float."""
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
MAX_WAIT = 10.0**9
"""Maximum seconds of a wait; a longer one is read as this many."""
MAX_TOKENS = 10**12
"""Maximum of a count of tokens; a larger number is read as 0."""


def loads(data: bytes | str) -> Any:
    """Return the value of JSON (bytes in UTF-8, or text) from a server. Raises ValueError where it is no JSON, or is nested
    deeper than MAX_DEPTH (100).

    Half a surrogate pair, which no file can hold, becomes U+FFFD, and a whole number of more than MAX_DIGITS (400) digits
    an infinite float. `NaN` and `Infinity` are read as floats, though they are no JSON.
    """
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    try:
        value = json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if text.count("[") + text.count("{") > MAX_DEPTH and deeper(value):
        raise ValueError(TOO_DEEP)
    return whole_text(value) if _HALF_PAIR.search(text) else value


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else math.copysign(math.inf, -1 if digits[0] == "-" else 1)


def whole_text(value: Any) -> Any:
    """Return the value with each half of a surrogate pair in its texts and keys, at any depth, replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, Mapping):
        return {whole_text(key): whole_text(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [whole_text(inner) for inner in value]
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a mapping, else an empty mapping."""
    return value if isinstance(value, Mapping) else {}


def listed(value: Any) -> Sequence[Any]:
    """Return `value` if it is a list or tuple, else an empty sequence."""
    return value if isinstance(value, list | tuple) else ()


def text(value: Any) -> str:
    """Return `value` if it is a text, else an empty text."""
    return value if isinstance(value, str) else ""


def count(value: Any) -> int:
    """Return `value`, a number or a text that writes one, as a count of tokens, rounded down; 0 if it is no number,
    negative, or above MAX_TOKENS (10**12)."""
    try:
        number = float(value) if not isinstance(value, bool) else 0.0
    except (TypeError, ValueError, OverflowError):
        return 0
    return int(number) if 0 <= number <= MAX_TOKENS else 0


def token_ids(value: Any) -> list[int] | None:
    """Return `value` if it is a list of integers (token ids), else None."""
    if not isinstance(value, list) or any(isinstance(one, bool) or not isinstance(one, int) for one in value):
        return None
    return value


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds, cut to 0 to MAX_WAIT (10**9), that a response's headers (names in any case) ask a client to wait;
    None where they ask for no wait, or cannot be read.

    `retry-after-ms` holds milliseconds, and counts where both are there and it can be read; `Retry-After` holds seconds or
    a date, which is in UTC where it has no zone.
    """
    given = {str(name).lower(): str(value) for name, value in headers.items()}
    milliseconds = _number(given.get("retry-after-ms", ""))
    written = given.get("retry-after", "")
    seconds = _number(written) if milliseconds is None else milliseconds / 1000
    if seconds is None:
        seconds = _until(written)
    return None if seconds is None else min(max(seconds, 0.0), MAX_WAIT)


def _number(written: str) -> float | None:
    try:
        number = float(written)
    except ValueError:
        return None
    return 0.0 if math.isnan(number) else number


def _until(written: str) -> float | None:
    try:
        date = parsedate_to_datetime(written)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
