"""The failure of one try of an API call: its cause, and whether a further try may succeed."""

from __future__ import annotations

import json
import re
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from lmprog.boundary.wire import loads, retry_after
from lmprog.errors import Handled
from lmprog.lms.api.access import WHERE

T = TypeVar("T")
PASSING = frozenset({408, 409, 425, 429})
"""HTTP statuses under 500 after which the same request may succeed; of 500 and above all may."""
SPENT = re.compile(r"insufficient_quota|exceeded your current quota|billing_(hard_limit|not_active)", re.IGNORECASE)
"""Words in a refusal by which a quota is spent: waiting brings no reply, whatever the status is."""
OTHER_NAME = re.compile(r"[Uu]se '?(max_completion_tokens|max_tokens)'? instead")


class TryFailed(Handled):
    """A failed try of an API call, which gave no reply. Where `passing` is True, a further try may succeed.

    `words` are the provider's own message, if any, and may hold a secret; `status` is the HTTP status (None: there was
    no response), `asked` the number of seconds that the provider asks to wait (None: none); `fix` is lmprog's advice.
    Where the provider refuses the parameter for the longest reply, `limit` is the name that the provider has for it
    (None: it does not).
    """

    limit: str | None = None

    def __init__(
        self, words: str, *, passing: bool, status: int | None = None, asked: float | None = None, fix: str = ""
    ) -> None:
        super().__init__()  # without the words, which would stand in its repr
        self.words, self.passing, self.status, self.asked, self.fix = words, passing, status, asked, fix

    @classmethod
    def of_status(cls, status: int, words: str, headers: Mapping[str, str], body: str = "") -> TryFailed:
        """Return the failure for an HTTP error status. It is `passing` for a status of PASSING and from 500 on, unless the
        words name a quota that is spent.

        `body` may hold more than `words`, such as an error code; `headers` may ask for a wait.
        """
        spent = status in (402, 403, 429) and bool(SPENT.search(f"{words} {body}"))
        later = status in PASSING or status >= 500
        asked = retry_after(headers) if later else None
        fix = "add credit with the provider, or name another LM" if spent and not asked else ""
        if status == 401:
            fix = f"is its key right? It is read where `api_key` of the LM says, else {WHERE}"
        failed = cls(words, passing=later and not spent, status=status, asked=asked, fix=fix)
        if status in (400, 422) and (other := OTHER_NAME.search(words)):
            failed.limit = other[1]
        return failed

    def refuses(self, *names: str) -> bool:
        """Return whether the provider refused the request (status 400 or 422) with a message that names one of these
        parameters.
        """
        return self.status in (400, 422) and any(name in self.words for name in names)


def too_long(id: str, most: int) -> TryFailed:
    """Return the failure, which is not `passing`, for a reply of the LM `id` that has more than `most` bytes."""
    fix = f"raise lms.{id}.limits.reply_mb where such a reply is right"
    return TryFailed(f"its reply is longer than {most / 1e6:g} MB", passing=False, fix=fix)


def words_of(body: str) -> str:
    """Return the message in the body of an error response: in OpenAI's or FastAPI's form, else the whole text in one
    line.
    """
    try:
        said = loads(body)
    except ValueError:
        return " ".join(body.split())
    for name in ("error", "detail", "message"):
        while isinstance(said, Mapping) and name in said:
            said = said[name]
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


async def outcome(once: Coroutine[Any, Any, T], limit: float) -> T | TryFailed:
    """Return the result of `once`, one try of a call; where it raises TryFailed, that failure, and for a time-out or
    another OSError a `passing` TryFailed. Other errors are raised. `limit` is the try's time limit in seconds: it is
    only named in the message, and `once` must keep it itself.
    """
    try:
        return await once
    except TryFailed as failed:
        return failed
    except TimeoutError:
        return TryFailed(f"no reply within {limit:g} seconds", passing=True)
    except OSError as error:
        return TryFailed(str(error) or type(error).__name__, passing=True)
