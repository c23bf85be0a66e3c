"""Explanations of text that is no YAML: the place, the cause in plain words, and the fix."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

_UNQUOTED = (("${{ }}", re.compile(r"\$\{\{")), ("a type with brackets", re.compile(r"\blist\[")))
_NESTED_COLON = re.compile(r"^(\s*(?:- )?[^\s:#][^:#]*:\s+)([^\s\"'|>{\[].*?:(?:\s.*|))$")
_FORBIDDEN_START = re.compile(r"(?:^|[:\-,\[{]\s+|^\s*)([%@`])")


@dataclass(frozen=True)
class Slip:
    """An explained mistake in a YAML text: its message, with its fix (None: not known); lines and columns count from 1,
    `length` is in characters."""

    line: int
    column: int
    message: str
    fix: str | None = None
    length: int = 1


def slip(lines: list[str], line: int, column: int, began: int, problem: str) -> Slip:
    """Return the explanation of a YAML error, from the parser's words for it (`problem`), its `line` and `column` (from 1)
    and the `lines` of the file; where the slip is not a known one, the parser's words themselves, with a fix if there is
    one for them.

    `began` is the line, from 1, where the part that cannot be read begins.
    """
    found = next(_candidates(lines, line, began, problem), None)
    return found or Slip(line, column, f"this is not YAML: {problem}", _GENERAL.get(problem))


_GENERAL = {  # by the parser's words for a problem, its fix
    "did not find expected key": "put each key of a mapping into one column, and quotes around a whole value",
    "could not find expected ':'": "write key: value",
    "found unexpected end of stream": "close the quote or bracket that is open",
    "did not find expected ',' or '}'": "close the bracket, or quote a value that holds one",
    "did not find expected ',' or ']'": "close the bracket, or quote a value that holds one",
    "block sequence entries are not allowed in this context": "put the list on lines of its own, below its key",
    "did not find expected '-' indicator": "put all items of the list into one column",
}


_BLOCK_BEHIND = re.compile(r":\s+([>|][-+\d]*)\s+(\S.*)$")
_GOES_ON = re.compile(r"^(\s*(?:- )?[\w-]+:)\s+((?:\"[^\"]*\"|'[^']*'|\[[^\]]*\]|\{+[^{}]*\}+)\s*[^\s,#:][^:]*)$")
"""A value that goes on behind the end of its quotes or brackets."""


def _candidates(lines: list[str], line: int, began: int, problem: str) -> Iterator[Slip]:
    """Yield the slips that explain a YAML error, the likeliest first; the arguments are those of `slip`."""
    for number in dict.fromkeys((line, began, line - 1)):
        text = lines[number - 1] if 0 < number <= len(lines) else ""
        for wanted, pattern in _UNQUOTED:
            found = next((one for one in pattern.finditer(text) if _is_bare(text[: one.start()])), None)
            if found:
                alone = re.fullmatch(r"\s*(- )?[\w-]+:\s*", text[: found.start()])
                fix = "quote it" if alone else "quote it or put it on its own line"
                message = f"YAML cannot read {wanted} without quotes here"
                yield Slip(number, found.start() + 1, message, fix, found.end() - found.start())
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    if "cannot start any token" in problem and "\t" in text:
        yield Slip(line, text.index("\t") + 1, "a tab stands where YAML takes spaces", "write spaces for it")
    for number in dict.fromkeys((line, began)):
        yield from _odd_space(lines[number - 1] if 0 < number <= len(lines) else "", number)
    if "mapping values are not allowed" in problem and (colon := _NESTED_COLON.match(text)):
        message = "a text that holds a colon and a space needs quotes"
        yield Slip(line, len(colon[1]) + 1, message, f"write {colon[1].strip()} {_quoted(colon[2])}", len(colon[2]))
    if "cannot start any token" in problem and (mark := _FORBIDDEN_START.search(text)):
        value = text[mark.start(1) :]
        message = f"a text that begins with {mark[1]} needs quotes"
        yield Slip(line, mark.start(1) + 1, message, f"write {_quoted(value)}")
    if "expected comment or line break" in problem and (block := _BLOCK_BEHIND.search(text)):
        message = f"a text below {block[1]} begins in the next line"
        yield Slip(line, block.start(2) + 1, message, f"write it there, or write {_quoted(block[2])}", len(block[2]))
    if "expected key" in problem and (closed := _GOES_ON.match(text)):
        message = f"a text that begins with {closed[2][0]} needs quotes around all of it"
        yield Slip(
            line, closed.start(2) + 1, message, f"write {closed[1].strip()} {_quoted(closed[2])}", len(closed[2])
        )
    if "found another document" in problem:
        message = "the file holds a second document below `---`, and a program is one"
        yield Slip(line, 1, message, "write each program into a file of its own", 3)
    if ("alias" in problem or "alphabetic" in problem) and (star := re.search(r"(?:^|[:\-,\[{]\s+)(\*.*)$", text)):
        message = "a text that begins with * is an alias in YAML, and needs quotes"
        yield Slip(line, star.start(1) + 1, message, f"write {_quoted(star[1])}")
    if "quoted scalar" in problem or "end of stream" in problem:
        yield Slip(began, 1, "a quote that opens in this line does not close", "close it, or write the text below `|`")


def folded_list(lines: list[str], first: int, last: int) -> bool:
    """Return whether two or more of the lines `first` to `last` (from 1, both included), a text below `>`, are marked as
    items of a list, which folding would join into one line.
    """
    body = [text for text in lines[first - 1 : last] if text.strip()]
    indent = min((len(text) - len(text.lstrip()) for text in body), default=0)
    items = [text for text in body if re.match(r"(?:[-*+]|\d{1,3}[.)])\s+\S", text[indent:])]
    return len(items) > 1


def in_curly_quotes(text: str) -> str | None:
    """Return the text inside curly quotes that enclose a whole text; None where there are none."""
    curly = len(text) > 2 and text[0] in "\u201c\u201e\u2018" and text[-1] in "\u201d\u201c\u2019"
    return text[1:-1] if curly and text[0] not in text[1:-1] else None


def _odd_space(text: str, line: int) -> Iterator[Slip]:
    """Yield a slip for the first character of a line's indentation that looks like a space and is none; nothing where
    there is none."""
    for place, character in enumerate(text):
        if character in " \t":
            continue
        if not character.isspace() and unicodedata.category(character) != "Cf":
            return
        name = unicodedata.name(character, "").lower()
        message = f"U+{ord(character):04X} ({name}) stands where YAML takes spaces"
        yield Slip(line, place + 1, message, "write a space for it")
        return


def _is_bare(before: str) -> bool:
    """Return whether the text behind `before`, the start of its line, stands outside of quotes."""
    return before.count('"') % 2 == 0 and before.count("'") % 2 == 0


def _quoted(text: str) -> str:
    """Return a text as a scalar in double quotes, cut to 60 characters."""
    text = text.strip()
    shown = text if len(text) <= 60 else text[:57] + "..."
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
