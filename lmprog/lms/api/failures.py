"""Why one try of a call gave no reply, and whether the next may."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

PASSING = frozenset({408, 409, 425, 429})
"""HTTP statuses under 500 after which the same request may succeed; of 500 and above all may."""


class TryFailed(Exception):
    """One try. `words` are the provider's own where it said any, and may hold a secret; `asked` are seconds to wait; `fix` is
    what may help, in words of ours."""

    def __init__(
        self, words: str, *, passing: bool, status: int | None = None, asked: float | None = None, fix: str = ""
    ) -> None:
        super().__init__()  # without the words, which would stand in its repr
        self.words, self.passing, self.status, self.asked, self.fix = words, passing, status, asked, fix

    @classmethod
    def of_status(cls, status: int, words: str, headers: Mapping[str, str]) -> TryFailed:
        """The failure that an HTTP status says."""
        passing = status in PASSING or status >= 500
        return cls(words, passing=passing, status=status, asked=retry_after(headers) if passing else None)

    def refuses(self, *names: str) -> bool:
        """Whether the provider takes no request with one of these parameters."""
        return self.status in (400, 422) and any(name in self.words for name in names)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from now that `Retry-After` asks for, which holds seconds or a date; None where it says nothing readable."""
    written = headers.get("retry-after") or headers.get("Retry-After") or ""
    try:
        seconds = float(written)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(written).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    # NaN compares as false.
    return seconds if seconds > 0 else 0.0


def words_of(body: str) -> str:
    """What an error's body says in words: OpenAI's form, FastAPI's, or the text as it is."""
    try:
        said = json.loads(body)
    except ValueError:
        return " ".join(body.split())
    for name in ("error", "detail", "message"):
        while isinstance(said, Mapping) and name in said:
            said = said[name]
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
