"""Tags of runs in traces: `session` and `user`, by which viewers group runs, and names of the caller's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmprog.errors import UsageError

MOST = 16
"""The most tags of one run."""
LONGEST = 512
"""The most characters of a tag's name or value."""


def problem(tags: Any) -> str | None:
    """Return a sentence that says why `tags` cannot be sent with a trace, or None where they can: at most MOST (16)
    texts by name, both of at most LONGEST (512) characters that can be printed, and no name blank."""
    if not isinstance(tags, Mapping):
        return f"tags are a mapping from names to texts, not {type(tags).__name__}"
    if len(tags) > MOST:
        return f"a run has {MOST} tags at most, and here are {len(tags)}"
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            return f"tags are texts: {name!r} has {value!r}; write it as a text"
        if not name.strip() or max(len(name), len(value)) > LONGEST:
            return f"the tag {name[:40]!r} has no name, or more than {LONGEST} characters"
        if not (name + value).isprintable():
            return f"the tag {name[:40]!r} holds characters that cannot be printed"
    return None


def checked(tags: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of the tags, texts by name. Raises UsageError for tags that cannot be sent with a trace (`problem`)."""
    wrong = problem(tags)
    if wrong:
        raise UsageError(wrong)
    return dict(tags)
