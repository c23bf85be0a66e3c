"""The normalization of names and values before they are compared."""

from __future__ import annotations

import re

MARKS = "\"'`*.,:;!?()[]<> \n\ufeff"
"""Characters that may surround a single value without a meaning of their own."""


def folded(text: str) -> str:
    """Return a name or value in lower case, with `_` for each run of blanks, `_` and `-` (also at its ends), so that
    spellings compare as equal.
    """
    return re.sub(r"[\s_-]+", "_", text.lower())
