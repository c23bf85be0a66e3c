"""Edits of Jinja templates as text: only single places change, so that the rest stays as its author wrote it. A template that
Jinja cannot split into tokens stays unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from jinja2 import Environment, TemplateSyntaxError

_LEXER = Environment(keep_trailing_newline=True).lexer
_BEGINS = ("block_begin", "comment_begin", "raw_begin", "raw_end")
_ENDS = ("block_end", "comment_end", "raw_end")


@dataclass(frozen=True)
class Token:
    """A piece of a Jinja template: its kind as Jinja's lexer names it, its text, and the position at which it starts."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """The position in the template after the last character."""
        return self.start + len(self.text)


def tokens(text: str) -> list[Token] | None:
    """Return the pieces of a template in order; None where Jinja cannot split it. Blanks that a `-` removes are in no piece,
    and line breaks must be `\\n`.
    """
    found: list[Token] = []
    place = 0
    try:
        for _, kind, piece in _LEXER.tokeniter(text, None):
            while not text.startswith(piece, place):  # what a `-` has removed
                place += 1
            found.append(Token(kind, piece, place))
            place += len(piece)
    except (TemplateSyntaxError, ValueError):
        return None
    return found


def with_blanks_kept(text: str, *, trims: bool) -> str:
    """Return a template changed so that lmprog renders it with the blanks and line breaks that the other tool would
    write; unchanged where Jinja cannot split it.

    lmprog removes the blanks before a block at the start of a line, and the line break after it; `{%+` and `+%}` keep
    them. With `trims` the other tool removes the line break too (`trim_blocks`), so only the blanks are kept.
    """
    edits: dict[int, str] = {}
    for token in tokens(text) or ():
        if token.kind in _BEGINS and token.text[2:3] not in ("-", "+"):
            line = text[text.rfind("\n", 0, token.start) + 1 : token.start]
            if line and not line.strip():
                edits[token.start + 2] = "+"
        if (
            token.kind in _ENDS
            and not trims
            and text[token.end : token.end + 1] == "\n"
            and token.text[-3:-2] not in ("-", "+")
        ):
            edits[token.end - 2] = "+"
    return _edited(text, {(place, place): new for place, new in edits.items()})


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Return a template with its variables renamed, also those that it sets itself: `names` has the new name by the old
    one. Attributes, filters, tests and the names of arguments stay, and so does a template that Jinja cannot split.
    """
    edits: dict[tuple[int, int], str] = {}
    before, depth = "", 0
    pieces = [token for token in tokens(text) or () if token.kind != "whitespace"]
    for token, after in zip(pieces, [*pieces[1:], None], strict=False):
        if token.kind == "operator":
            depth += {"(": 1, ")": -1}.get(token.text, 0)
        keyword = depth > 0 and after is not None and after.text == "="
        if token.kind == "name" and token.text in names and before not in (".", "|", "is") and not keyword:
            edits[token.start, token.end] = names[token.text]
        before = token.text
    return _edited(text, edits)


def respelled(text: str) -> str:
    """Return a template with `.items()` written as the filter `items`, and without `.keys()` and `| safe`, which lmprog
    lacks and which change nothing there; unchanged where Jinja cannot split it.
    """
    edits: dict[tuple[int, int], str] = {}
    pieces = [token for token in tokens(text) or () if token.kind != "whitespace"]
    for place, token in enumerate(pieces):
        words = "".join(piece.text for piece in pieces[place : place + 4])
        if token.text == "." and words in (".items()", ".keys()"):
            edits[token.start, pieces[place + 3].end] = " | items" if words == ".items()" else ""
        elif token.text == "|" and [piece.text for piece in pieces[place + 1 : place + 2]] == ["safe"]:
            edits[token.start, pieces[place + 1].end] = ""
    return _edited(text, edits)


def outputs(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end position of what stands between the braces of each `{{ }}`, blanks too, in order; nothing
    for a template that Jinja cannot split.
    """
    start = None
    for token in tokens(text) or ():
        if token.kind == "variable_begin":
            start = token.end
        elif token.kind == "variable_end" and start is not None:
            yield start, token.start
            start = None


def with_outputs(text: str, changes: Mapping[int, Callable[[str], str]]) -> str:
    """Return a template with the expressions of some `{{ }}` changed: `changes` has, by the number of the `{{ }}` (from
    0; others are ignored), a function from the old expression, in brackets if a filter could not follow it, to the new.
    """
    edits = {}
    for number, (start, end) in enumerate(outputs(text)):
        if number in changes:
            written = text[start:end].strip()
            edits[start, end] = f" {changes[number](_in_brackets(written))} "
    return _edited(text, edits)


def _in_brackets(expression: str) -> str:
    """Return an expression as one that a filter can follow: in brackets, unless it is a name or a path of names."""
    return expression if re.fullmatch(r"[\w.]+", expression) else f"({expression})"


def _edited(text: str, edits: Mapping[tuple[int, int], str]) -> str:
    """Return a text with new pieces in the place of some others, by their start and end; none of them overlap."""
    for (start, end), new in sorted(edits.items(), reverse=True):
        text = text[:start] + new + text[end:]
    return text
