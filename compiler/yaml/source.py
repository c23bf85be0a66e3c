"""The nodes of a spec: values with the file, line and column where they stand."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_KEY = re.compile(r"""(?<![\w-])lmprog["']?[ \t]*:|^extends[ \t]*:""", re.MULTILINE)


_ESCAPED = {'"': re.compile(r'"(?:[^"\\]|\\.)*"'), "'": re.compile(r"'(?:[^']|'')*'")}
"""Quoted texts that end in the line where they begin."""


@dataclass(frozen=True, eq=False)
class Source:
    """A text of YAML with its file (`path`), or the value of an option, and the `name` that messages show; relative paths in
    it start at `folder`."""

    path: Path
    name: str
    text: str
    folder: Path

    @cached_property
    def is_program(self) -> bool:
        """True if the text has the key `lmprog`, anywhere in a line, or `extends` at the start of one; other files are never
        quoted in messages. (`program_files.is_program`, by which folders are searched, counts neither overlays nor such
        keys within a line.)"""
        return _KEY.search(self.text) is not None

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the text without their ends, as `str.splitlines` divides it."""
        return self.text.splitlines()

    def line(self, number: int) -> str | None:
        """Return a line by its number, from 1; None where there is no such line."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else None


@dataclass(frozen=True)
class Place:
    """A part of one line of a source, `length` characters long; line and column count from 1. Its text is
    `file:line:column`."""

    source: Source
    line: int
    column: int
    length: int = 1

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"


class Node:
    """A value in a spec, with its source, line and column (from 1): a Scalar, a Sequence or a Mapping."""

    __slots__ = ("column", "line", "source")

    def __init__(self, source: Source, line: int, column: int) -> None:
        self.source, self.line, self.column = source, line, column

    @property
    def place(self) -> Place:
        """The place of the value in its file, where it begins; that of a scalar covers its first line, but one character of a
        block (`|`, `>`), that of a list or mapping one character."""
        return Place(self.source, self.line, self.column)

    @property
    def where(self) -> str:
        """The place as text, `file:line:column`."""
        return f"{self.source.name}:{self.line}:{self.column}"

    def plain(self) -> Any:
        """Return the value as plain values (dictionaries, lists, texts, numbers), without places. Raises TypeError in
        this base class."""
        raise TypeError(type(self))


class Scalar(Node):
    """A node that is a string, number, boolean or null: its `value`, its `text` as written, without quotes and with escapes
    resolved, and its YAML `style` (`'`, `"`, `|` or `>`; None or empty without quotes)."""

    __slots__ = ("style", "text", "value")

    def __init__(self, source: Source, line: int, column: int, value: Any, text: str, style: str | None) -> None:
        # A large file has tens of thousands: the base's __init__ is not called for them.
        self.source, self.line, self.column = source, line, column
        self.value, self.text, self.style = value, text, style

    @property
    def place(self) -> Place:
        if self.style in ("|", ">"):
            return Place(self.source, self.line, self.column)
        first = self.text.partition("\n")[0]
        return Place(self.source, self.line, self.column, max(1, len(first) + (2 if self.style else 0)))

    def at(self, offset: int, length: int = 1) -> Place:
        """Return the place in the file of the `length` characters at `offset` (from 0) of a scalar's text.

        Escapes, blocks and lines that are folded into one are followed; it is approximate where these occur together.
        """
        before = self.text[:offset]
        row = before.count("\n")
        inside = offset - (before.rfind("\n") + 1)
        if self.style == "|":
            line = self.source.line(self.line + 1 + row) or ""
            indent = len(line) - len(line.lstrip(" ")) if row == 0 else self._indent()
            return Place(self.source, self.line + 1 + row, min(indent, len(line)) + inside + 1, length)
        if self.style in ("'", '"') and (written := _ESCAPED[self.style].match(self._from_quote())):
            if written[0] != self.style + self.text + self.style:
                return Place(self.source, self.line, self.column + self._written(offset), length)
        elif self.style == ">" or "\n" in self.text or self._spans_lines():
            return self._search(before, length)
        return Place(self.source, self.line, self.column + offset + (1 if self.style else 0), length)

    def _from_quote(self) -> str:
        """Return the line from the opening quote on."""
        return (self.source.line(self.line) or "")[self.column - 1 :]

    def _written(self, offset: int) -> int:
        """Return how many characters, with the opening quote, are written before the one at `offset` of a quoted text."""
        text, position = self._from_quote(), 1
        for _ in range(offset):
            if text[position] == "\\" and self.style == '"':
                position += {"x": 4, "u": 6, "U": 10}.get(text[position + 1], 2)
            else:
                position += 2 if text[position : position + 2] == "''" and self.style == "'" else 1
        return position

    def _indent(self) -> int:
        for number in range(self.line + 1, len(self.source.lines) + 1):
            line = self.source.line(number) or ""
            if line.strip():
                return len(line) - len(line.lstrip(" "))
        return 0

    def _spans_lines(self) -> bool:
        line = self.source.line(self.line) or ""
        return self.text not in line

    def _search(self, before: str, length: int) -> Place:
        """Follow the words of folded text through the file, as the line breaks have moved."""
        target = len("".join(before.split()))
        number, column = self.line, self.column - 1
        if self.style:
            column += 1
        if self.style == ">":
            number, column = self.line + 1, 0
        seen = 0
        while (line := self.source.line(number)) is not None:
            for position in range(column, len(line)):
                if line[position].isspace():
                    continue
                if seen == target:
                    return Place(self.source, number, position + 1, length)
                seen += 1
            number, column = number + 1, 0
        return self.place

    def plain(self) -> Any:
        return self.value


class Sequence(Node):
    """A node that is a list, of the nodes `items`."""

    __slots__ = ("items",)

    def __init__(self, source: Source, line: int, column: int, items: list[Node]) -> None:
        super().__init__(source, line, column)
        self.items = items

    def plain(self) -> Any:
        return [item.plain() for item in self.items]


class Mapping(Node):
    """A node that is a mapping with string keys: `entries` has the node of each value by key, `keys` that of each key."""

    __slots__ = ("dropped", "entries", "keys")

    def __init__(
        self, source: Source, line: int, column: int, entries: dict[str, Node], keys: dict[str, Scalar]
    ) -> None:
        super().__init__(source, line, column)
        self.entries, self.keys = entries, keys
        self.dropped: frozenset[str] = frozenset()
        """Keys that were written, and left out because of a finding of their own, so that they are not missing."""

    def get(self, key: str) -> Node | None:
        """Return the node of a key, of null too; None where it is absent."""
        return self.entries.get(key)

    def map(self, key: str) -> Mapping | None:
        """Return the node of a key if it is a mapping, else None."""
        value = self.entries.get(key)
        return value if isinstance(value, Mapping) else None

    def value(self, key: str, default: Any = None) -> Any:
        """Return the plain value of a key (None for null), or `default` where it is absent."""
        node = self.entries.get(key)
        return default if node is None else node.plain()

    def key_place(self, key: str) -> Place:
        """Return the place of a key itself, not of its value; that of the mapping where the key is absent."""
        return self.keys[key].place if key in self.keys else self.place

    def copy(self) -> Mapping:
        """Return a mapping with the same place and entries, which can be changed without changing this one; the nodes
        in it are shared."""
        other = Mapping(self.source, self.line, self.column, dict(self.entries), dict(self.keys))
        other.dropped = self.dropped
        return other

    def plain(self) -> Any:
        return {key: value.plain() for key, value in self.entries.items()}


def shown_path(path: Path) -> str:
    """Return a path as messages show it: relative to the working directory, or unchanged where that would begin two
    folders or more above it, or is not possible."""
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return str(path)
    return str(path) if relative.startswith(os.pardir + os.sep + os.pardir) else relative


def placed(value: Any, at: Node) -> Node:
    """Return nodes for a plain value that was computed from the node `at`, each with that node's place: Mappings for
    dictionaries, at every depth, and a Scalar for anything else, a list included."""
    if isinstance(value, dict):
        keys = {str(key): placed(str(key), at) for key in value}
        entries = {str(key): placed(item, at) for key, item in value.items()}
        return Mapping(at.source, at.line, at.column, entries, keys)  # type: ignore[arg-type]
    return Scalar(at.source, at.line, at.column, value, str(value), '"' if isinstance(value, str) else None)


def from_plain(value: Any, source: Source) -> Node:
    """Return nodes for plain values that stand in no file, such as command-line options or an optimizer's candidate; all
    have the place line 1, column 1 of `source`. Keys become texts."""
    if isinstance(value, dict):
        keys = {str(key): Scalar(source, 1, 1, str(key), str(key), '"') for key in value}
        return Mapping(source, 1, 1, {str(key): from_plain(item, source) for key, item in value.items()}, keys)
    if isinstance(value, list | tuple):
        return Sequence(source, 1, 1, [from_plain(item, source) for item in value])
    return Scalar(source, 1, 1, value, str(value), '"' if isinstance(value, str) else None)
