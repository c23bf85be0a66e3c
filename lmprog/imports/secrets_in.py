"""Texts in the files of other tools that look like keys: they are written neither to a program nor to its notes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NAME = re.compile(r"key|token|secret|password|passwd|authorization|credential", re.IGNORECASE)
"""A part of the names under which keys stand."""
SHAPE = re.compile(r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|gsk|hf|xai|ghp|xoxb)[-_][\w-]{8,}|AIza[\w-]{10,})")
"""The form of keys that are known by themselves; the end of a word, as in `task-oriented`, begins none."""


def masked(value: Any, name: str = "") -> Any:
    """Return a plain value with `***` in place of its texts that look like keys: a part of a text that has the form of one,
    and a text under a name such as `api_key`, in mappings within it too. `name` is the name of the value itself (empty: it
    has none). A number, and a reference such as `${env:KEY}`, is no key.
    """
    if isinstance(value, Mapping):
        return {key: masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, name) for item in value]
    if not isinstance(value, str) or value.startswith("${"):
        return value
    if len(value) > 3 and NAME.search(name) and not value.replace(".", "").isdigit():
        return "***"
    return SHAPE.sub("***", value)
