"""A named section of a reply as it is written, and its layout."""

from __future__ import annotations

import re

LAYOUT_BEFORE = re.compile(r"[ \t]*\r?\n")
LAYOUT_AFTER = re.compile(r"\r?\n[ \t]*\Z")


def write(name: str, text: str) -> str:
    """Return a text as the section that `read` reads as the same text.

    An end of the section within it gets a backslash, and a line break at either end another one, which is layout.
    """
    before = "\n" if LAYOUT_BEFORE.match(text) else ""
    after = "\n" if LAYOUT_AFTER.search(text[-200:]) else ""
    return f"<{name}>{before}{escaped(name, text)}{after}</{name}>"


def escaped(name: str, text: str) -> str:
    """Return a text in which each end of its own section has a backslash, as `<\\/name>`."""
    return re.sub(rf"<(\\*)/{re.escape(name)}>", rf"<\1\\/{name}>", text)
