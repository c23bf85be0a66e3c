"""The one spelling in which names and values are compared."""

from __future__ import annotations

import re

MARKS = "\"'`*.,:;!?()[]<> \n\ufeff"
"""Characters that may surround a single value without a meaning of their own."""


def folded(text: str) -> str:
    """Return a name or value in the one spelling in which it is compared."""
    return re.sub(r"[\s_-]+", "_", text.lower())
