"""The text of a file as an editor holds it, and positions in it: of the compiler, and of editors, which count other units."""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from typing import Literal

Units = Literal["utf-8", "utf-16", "utf-32"]
"""The units in which an editor counts the characters of a line."""

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
"""The line ends of YAML, which the compiler counts."""
_EDITOR_BREAK = re.compile(r"\r\n|[\n\r]")
"""The line ends of the language server protocol."""


class Text:
    """A text with its lines, and conversions between positions: an offset counts characters from 0, the compiler lines and
    columns from 1, editors both from 0.
    """

    def __init__(self, raw: str) -> None:
        self.raw = raw

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the text without their ends, as the compiler counts them."""
        return _BREAK.split(self.raw)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(found.end() for found in _BREAK.finditer(self.raw))]

    @cached_property
    def _editor_starts(self) -> list[int]:
        return [0, *(found.end() for found in _EDITOR_BREAK.finditer(self.raw))]

    def line(self, number: int) -> str:
        """Return a line by its number from 1, or an empty text where there is none."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a line and column (from 1); the nearest one where the text has no such place."""
        if line > len(self.lines):
            return len(self.raw)
        line = max(1, line)
        return self._starts[line - 1] + min(max(0, column - 1), len(self.lines[line - 1]))

    def place(self, offset: int) -> tuple[int, int]:
        """Return the line and column (from 1) for an offset; the nearest place where the text has no such offset."""
        line = bisect_right(self._starts, max(0, min(offset, len(self.raw))))
        return line, max(0, min(offset, len(self.raw))) - self._starts[line - 1] + 1

    def to_editor(self, offset: int, units: Units = "utf-16") -> tuple[int, int]:
        """Return an editor's line and position (from 0) for an offset, or the nearest place; `units` are those that the
        editor counts within a line."""
        offset = max(0, min(offset, len(self.raw)))
        line = bisect_right(self._editor_starts, offset) - 1
        return line, _length(self.raw[self._editor_starts[line] : offset], units)

    def from_editor(self, line: int, position: int, units: Units = "utf-16") -> int:
        """Return the offset of an editor's line and position (from 0), counted in `units`; the nearest one where there is
        no such position.
        """
        if line >= len(self._editor_starts):
            return len(self.raw)
        start = self._editor_starts[max(0, line)]
        end = self._editor_starts[line + 1] if line + 1 < len(self._editor_starts) else len(self.raw)
        text = self.raw[start:end].rstrip("\r\n")
        if text.isascii():
            return start + min(max(0, position), len(text))
        for index, character in enumerate(text):
            if position <= 0:
                return start + index
            position -= _length(character, units)
        return start + len(text)


def _length(text: str, units: Units) -> int:
    """Return the length of a text in an editor's units."""
    if units == "utf-32" or text.isascii():
        return len(text)
    if units == "utf-8":
        return len(text.encode(errors="surrogatepass"))
    return len(text) + sum(ord(character) > 0xFFFF for character in text)
