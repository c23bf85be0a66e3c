"""Dotted names in expressions and templates, found by patterns and without a parser, so that half-typed text has them too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAME = r"[^\W\d]\w*"
_STRING = r'"(?:[^"\\]|\\.)*(?:"|\Z)|' + r"'(?:[^'\\]|\\.)*(?:'|\Z)"
_PART = rf"""\s*(?:\.\s*(?:{_NAME})|\[\s*(?:"\w*"|'\w*')\s*\])"""
_TOKEN = re.compile(
    rf"(?P<string>{_STRING})|(?P<number>\d[\w.]*)|(?P<behind>(?:\.|\|)\s*{_NAME}(?:{_PART})*)|(?P<chain>{_NAME}(?:{_PART})*)",
    re.DOTALL,
)
_WORD = re.compile(r"\w+")
_HOLE = re.compile(
    r"\{#.*?(?:#\}|\Z)"
    r"|\{%[-+]?\s*raw\s*[-+]?%\}.*?(?:\{%[-+]?\s*endraw\s*[-+]?%\}|\Z)"
    r"|(?P<open>\{\{|\{%)(?P<inner>(?:\"[^\"]*\"|'[^']*'|(?!\}\}|%\}).)*)(?:\}\}|%\}|\Z)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Part:
    """A name within a dotted name, with the character of the text (from 0) at which it begins (`offset`)."""

    name: str
    offset: int

    @property
    def end(self) -> int:
        """The character of the text (from 0) behind the name."""
        return self.offset + len(self.name)


Chain = tuple[Part, ...]


def in_expression(text: str, start: int = 0, end: int | None = None) -> Iterator[Chain]:
    """Yield the dotted names in an expression, each as its parts with their offsets in `text`; `a["b"]` counts as `a.b`. A name
    ends before a call, another bracket or a filter, and names behind these (`f().a`, `x[0].a`, `x | upper`) are left out.
    Words of the language, such as `if` and `not`, are yielded like names.

    Only the text from character `start` to `end` (None: to its end) is read.
    """
    for found in _TOKEN.finditer(text, start, len(text) if end is None else end):
        if found.lastgroup == "chain":
            yield tuple(Part(word[0], word.start()) for word in _WORD.finditer(text, found.start(), found.end()))


def in_template(text: str) -> Iterator[Chain]:
    """Yield the dotted names in the `{{ }}` and `{% %}` of a template, each as its parts with their offsets in `text`, as
    `in_expression` does (`for` and loop variables too), without names before an `=`, as of keyword arguments and of
    `set`."""
    for start, end in holes(text):
        for chain in in_expression(text, start, end):
            if not re.match(r"\s*=(?!=)", text[chain[-1].end : end]):
                yield chain


def holes(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end, in characters from 0, of the inside of each `{{ }}` and `{% %}` of a template, without
    comments and `raw` blocks; one that is not closed goes to the next `}}` or `%}`, or where there is none to the
    end of the text.
    """
    for found in _HOLE.finditer(text):
        if found["open"]:
            yield found.span("inner")
