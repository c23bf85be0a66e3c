"""The reason why one try of a call gave no reply, and whether the next may give one."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from lmprog.lms.api.wire import loads

PASSING = frozenset({408, 409, 425, 429})
"""HTTP statuses under 500 after which the same request may succeed; of 500 and above all may."""
SPENT = re.compile(r"insufficient_quota|exceeded your current quota|billing_(hard_limit|not_active)", re.IGNORECASE)
"""Words of a quota that is spent: waiting brings no reply, whatever the status says."""
OTHER_NAME = re.compile(r"[Uu]se '?(max_completion_tokens|max_tokens)'? instead")
LONGEST_WAIT = 10.0**9
"""Seconds; what asks for more is read as this many."""


class TryFailed(Exception):
    """One try without a reply.

    `words` are the provider's own where it said any, and may hold a secret; `asked` are seconds to wait; `fix` is what may
    help, in words of ours; `limit` is the name that the provider has for the longest reply, where it refuses ours.
    """

    limit: str | None = None

    def __init__(
        self, words: str, *, passing: bool, status: int | None = None, asked: float | None = None, fix: str = ""
    ) -> None:
        super().__init__()  # without the words, which would stand in its repr
        self.words, self.passing, self.status, self.asked, self.fix = words, passing, status, asked, fix

    @classmethod
    def of_status(cls, status: int, words: str, headers: Mapping[str, str], body: str = "") -> TryFailed:
        """Return the failure that an HTTP status says; `body` may hold more than `words`, as a code."""
        spent = status in (402, 403, 429) and bool(SPENT.search(f"{words} {body}"))
        later = status in PASSING or status >= 500
        asked = retry_after(headers) if later else None
        fix = "add credit with the provider, or name another LM" if spent and not asked else ""
        failed = cls(words, passing=later and not spent, status=status, asked=asked, fix=fix)
        if status in (400, 422) and (other := OTHER_NAME.search(words)):
            failed.limit = other[1]
        return failed

    def refuses(self, *names: str) -> bool:
        """Return whether the provider takes no request with one of these parameters."""
        return self.status in (400, 422) and any(name in self.words for name in names)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that a reply asks for; None where it says nothing that can be read.

    `retry-after-ms` holds milliseconds, `Retry-After` seconds or a date; a date without a zone is in UTC.
    """
    given = {str(name).lower(): str(value) for name, value in headers.items()}
    milliseconds = _number(given.get("retry-after-ms", ""))
    written = given.get("retry-after", "")
    seconds = _number(written) if milliseconds is None else milliseconds / 1000
    if seconds is None:
        seconds = _until(written)
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT)


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


def words_of(body: str) -> str:
    """Return what an error's body says in words: OpenAI's form, FastAPI's, or the text as it is."""
    try:
        said = loads(body)
    except ValueError:
        return " ".join(body.split())
    for name in ("error", "detail", "message"):
        while isinstance(said, Mapping) and name in said:
            said = said[name]
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
