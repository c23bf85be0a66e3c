"""The one spelling in which names and values are compared."""

from __future__ import annotations

import re

MARKS = "\"'`*.,:;!?()[]<> \n\ufeff"
"""What may stand around a single value without a meaning of its own."""


def folded(text: str) -> str:
    """Return a name or value in the one spelling in which it is compared."""
    return re.sub(r"[\s_-]+", "_", text.lower())
