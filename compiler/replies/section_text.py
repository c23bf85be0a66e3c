"""The writing of a named section of a reply, `<name>text</name>`."""

from __future__ import annotations

import re

LAYOUT_BEFORE = re.compile(r"[ \t]*\r?\n")
LAYOUT_AFTER = re.compile(r"\r?\n[ \t]*\Z")


def write(name: str, text: str) -> str:
    """Return a text as a section `<name>...</name>`, from which `sections.read` returns it unchanged.

    A closing tag of the section in it gets a backslash, and a text with a line break at an end gets one more there.
    """
    before = "\n" if LAYOUT_BEFORE.match(text) else ""
    after = "\n" if LAYOUT_AFTER.search(text[-200:]) else ""
    return f"<{name}>{before}{escaped(name, text)}{after}</{name}>"


def escaped(name: str, text: str) -> str:
    r"""Return a text with a backslash in each closing tag of the section `name`, as `<\/name>`."""
    return re.sub(rf"<(\\*)/{re.escape(name)}>", rf"<\1\\/{name}>", text)
