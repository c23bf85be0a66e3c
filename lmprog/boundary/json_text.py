"""Values as strict JSON, which every reader takes."""

from __future__ import annotations

import json
import math
from typing import Any

_WORDS = {"inf": "1e999", "-inf": "-1e999", "nan": "null"}


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a plain value as strict JSON: infinity as `1e999`, NaN as null, half a surrogate pair as an escape (`\\ud800`).

    `indent` is the number of spaces for each level; None writes one line. Raises TypeError for a value that JSON lacks,
    such as a date.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        mark = "\x00number:"
        text = json.dumps(_marked(value, mark), ensure_ascii=False, indent=indent)
        for name, word in _WORDS.items():
            text = text.replace(json.dumps(mark + name), word)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _marked(value: Any, mark: str) -> Any:
    """Return a value with a text in place of each number that is infinite or none, which begins with `mark`."""
    if isinstance(value, dict):
        return {key: _marked(item, mark) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(item, mark) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else f"{mark}{value}"
