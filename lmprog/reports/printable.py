"""Text of a model as a terminal may be given it."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text without what would steer a terminal, or what no terminal can show."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
