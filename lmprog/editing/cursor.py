"""The place of a cursor in a text that may be half typed: the keys around it, found by indentation and brackets alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lmprog.editing.chains import holes
from lmprog.editing.grammar import BARE, LAYOUTS, Spot, spot_of
from lmprog.editing.text import Text

_DASH = re.compile(r"-(?:\s+|$)")
_KEY = re.compile(r"""("[^"]*"|'[^']*'|[^\s"'#&*\[{\]},|>@`%!][^:#]*?)\s*:(?=\s|$)""")
_BLOCK = re.compile(r"[|>][-+\d]*\s*(?:#.*)?$")
_FLOW_TOKEN = re.compile(
    r""""(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|["'](?s:.*)|[{\[\]},]|:(?=\s|$)|\s+\#[^\n]*|[^{}\[\],:"'\s]+|\s+|:"""
)
_TAIL = re.compile(r"(?:[^\W\d]\w*\s*\.\s*)*\w*$")


@dataclass(frozen=True)
class Cursor:
    """The position of the cursor in a program: the keys around it, and the text that is typed there before it.

    `value` is True after a key and its colon, and for an item between brackets; `beside` has the other keys of the mapping,
    `indent` is the column of its keys (from 0), and `flow` is True between brackets. Every index of a block list is 0.
    """

    keys: tuple[str | int, ...]
    """The keys to the mapping or list that a word is typed in; with the last key, where its value is typed."""
    typed: str
    """The text before the cursor: of the key, or of the value, which may go over lines."""
    value: bool
    """True where a value is typed: behind a key and its colon, or as an item between brackets."""
    beside: frozenset[str] = frozenset()
    """The other keys of the mapping, where a key is typed."""
    indent: int = 0
    """The column of the keys of the mapping, from 0."""
    flow: bool = False
    """True between brackets."""

    @property
    def spot(self) -> Spot:
        """The place in the language at the end of `keys`."""
        return spot_of(self.keys)

    @property
    def level(self) -> str:
        """The ids of the loops whose steps an expression at the position reads, each with a dot after it (`outer.inner.`);
        empty outside of loops."""
        path: list[str] = []
        inner, spot = "", Spot()
        for key in self.keys:
            if spot.at == ("steps",):
                inner = "".join(f"{step}." for step in path)
                path.append(str(key))
            at, spot = spot.at, spot.into(key)
            if at == ("steps", "*") and key == "next":
                return "".join(f"{step}." for step in path)
        if spot.at == ("steps",):
            return "".join(f"{step}." for step in path)
        return "".join(f"{step}." for step in path) if spot.at == ("steps", "*", "repeat", "until") else inner

    @property
    def owner(self) -> tuple[str, ...]:
        """The section and id that the position is in, such as ("steps", path), for `steps`, `modules`, `tools`, `metrics`,
        `lms`, and for the members of an ensemble, which count as `modules`; empty elsewhere."""
        steps, spot = [], Spot()
        owner: tuple[str, ...] = ()
        for key in self.keys:
            if spot.at == ("steps",):
                steps.append(str(key))
                owner = ("steps", ".".join(steps))
            elif spot.at == ("ensemble", "members", "*"):
                owner = ("modules", str(key))
            elif len(spot.at) == 1 and spot.at[0] in ("modules", "tools", "metrics", "lms"):
                owner = (spot.at[0], str(key))
            spot = spot.into(key)
        return owner

    @property
    def expression(self) -> str | None:
        """The text of an expression before the cursor, without `${{`; None outside of expressions, and in templates."""
        at = self.spot.at
        if not self.value or at[:-1] in LAYOUTS:
            return None
        opened = self.typed.rfind("${{")
        if opened >= 0:
            inner = self.typed[opened + 3 :]
            return None if "}}" in inner else inner
        return self.typed if at in BARE else None

    @property
    def hole(self) -> str | None:
        """The text inside the `{{ }}` or `{% %}` of a template before the cursor; None outside of these, and in other texts."""
        if not self.value or self.spot.at[:-1] not in LAYOUTS:
            return None
        start, end = ([(0, -1), *holes(self.typed)])[-1]
        return self.typed[start:] if end == len(self.typed) else None


def word(text: str) -> str:
    """Return the dotted name at the end of a text, such as `steps.` or `steps.a`; empty where the text ends with none, or
    inside of a string."""
    bare = re.sub(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", lambda found: "0" * len(found[0]), text)
    if '"' in bare or "'" in bare:
        return ""
    found = _TAIL.search(bare)
    return found[0] if found is not None else ""


def in_string(text: str) -> bool:
    """Return whether a text ends inside of a string that is not closed."""
    bare = re.sub(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", "", text)
    return '"' in bare or "'" in bare


@dataclass(frozen=True)
class _Token:
    """A dash or a key of a line, at its indentation."""

    line: int
    indent: int
    key: str | None
    """The key; None for a dash."""
    rest: str = ""
    start: int = 0
    """The column, from 0, at which `rest` begins."""
    bare: bool = False
    """True for a bracket that opens in the line below its key."""


def cursor_at(text: Text, line: int, column: int) -> Cursor | None:
    """Return the cursor at a line and column (from 1), found by the lines around it; None in a comment."""
    written = text.line(line)
    before = written[: column - 1]
    own = list(_tokens(line, before))
    at = _content(own, before)
    indent = at if before.strip() else len(before)
    around = _around(text, line, indent, [token for token in own if token.key is None and not token.bare])
    block = next((token for token in around if _BLOCK.match(token.rest)), None)
    if block is not None:
        return _in_block(text, line, column, block, around)
    last = own[-1] if own and (own[-1].key is not None or own[-1].bare) else None
    chain = [*around, last] if last is not None else around
    opened = next((token for token in chain if token.rest[:1] in ("{", "[")), None)
    if opened is not None:
        found = _in_flow(text, line, column, opened, chain)
        if found is not None:
            return found
    if re.search(r"(?:^|\s)#", _unquoted(before)):
        return None
    if last is not None and last.key is not None:
        return Cursor((*_keys(around), last.key), _text_of(last.rest), True, indent=indent)
    beside = _beside(text, line, indent, around)
    return Cursor(_keys(around), before[at:], False, beside, indent)


def _tokens(number: int, line: str) -> Iterator[_Token]:
    """Yield the dashes and the key of a line, or the bracket that it begins with, each with its indentation; `number` is the
    line's, from 1."""
    position = len(line) - len(line.lstrip(" "))
    while found := _DASH.match(line, position):
        yield _Token(number, position, None, line[found.end() :], found.end())
        position = found.end()
    if key := _KEY.match(line, position):
        rest = line[key.end() :]
        name = key[1].strip("\"'")
        yield _Token(number, position, name, rest.lstrip(), key.end() + len(rest) - len(rest.lstrip()))
    elif line[position : position + 1] in ("{", "["):
        yield _Token(number, position, None, line[position:], position, bare=True)


def _content(own: list[_Token], before: str) -> int:
    """Return the column, from 0, at which the content of a line begins behind its dashes; `own` are the tokens of `before`,
    the line's text before the cursor."""
    if own and own[-1].key is not None:
        return own[-1].indent
    position = len(before) - len(before.lstrip(" "))
    while found := _DASH.match(before, position):
        position = found.end()
    return position


def _around(text: Text, line: int, indent: int, dashes: list[_Token]) -> list[_Token]:
    """Return the dashes and keys that a line is in, from the top, by their indentation; `indent` is the column of the line's
    content, and `dashes` are its own dashes."""
    found: list[_Token] = []
    key_limit, dash_limit = indent, indent

    def take(token: _Token) -> None:
        nonlocal key_limit, dash_limit
        found.append(token)
        # The dashes of a list may stand in the column of its key.
        is_dash = token.key is None and not token.bare
        key_limit, dash_limit = token.indent + is_dash, token.indent

    for token in reversed(dashes):
        take(token)
    for number in range(line - 1, 0, -1):
        if key_limit <= 0:
            break
        written = text.line(number)
        if not written.strip() or written.lstrip().startswith("#"):
            continue
        for token in reversed(list(_tokens(number, written))):
            if token.indent < (key_limit if token.key is not None else dash_limit):
                take(token)
    return found[::-1]


def _keys(around: list[_Token]) -> tuple[str | int, ...]:
    return tuple(0 if token.key is None else token.key for token in around if not token.bare)


def _beside(text: Text, line: int, indent: int, around: list[_Token]) -> frozenset[str]:
    """Return the keys of the mapping that a line is in, without the line's own: those in the column `indent` below the last
    of the tokens `around` it."""
    found = set()
    first = around[-1].line if around else 0
    for number in range(max(1, first), len(text.lines) + 1):
        written = text.line(number)
        if number == line or not written.strip() or written.lstrip().startswith("#"):
            continue
        for token in _tokens(number, written):
            if (
                token.key is not None
                and token.indent == indent
                and (number > first or token.indent > around[-1].indent)
            ):
                found.add(token.key)
        if number > line and len(written) - len(written.lstrip(" ")) < indent:
            break
    return frozenset(found)


def _in_block(text: Text, line: int, column: int, block: _Token, around: list[_Token]) -> Cursor:
    """Return the cursor in a text of several lines that stands below its key, with the text's lines up to the cursor as
    typed."""
    keys = _keys(around[: around.index(block) + 1])
    lines = [text.line(number) for number in range(block.line + 1, line)] + [text.line(line)[: column - 1]]
    return Cursor(keys, "\n".join(lines), True)


def _text_of(rest: str) -> str:
    """Return the text of a value that is typed, without the quote that opens it."""
    return rest[1:] if rest[:1] in ('"', "'") else rest


def _unquoted(text: str) -> str:
    return re.sub(r""""(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$)""", "", text)


@dataclass(frozen=True)
class _Frame:
    """An open bracket, of a mapping or a list, up to the cursor: the key before the value that is typed, the keys so far,
    and the index of the item."""

    mapping: bool
    key: str | None = None
    keys: frozenset[str] = frozenset()
    index: int = 0


def _in_flow(text: Text, line: int, column: int, opened: _Token, chain: list[_Token]) -> Cursor | None:
    """Return the cursor between the brackets that open at the token `opened`; None where they are closed before it, or it is
    in a comment of the same line."""
    if opened.line == line:
        written = text.line(line)[opened.start : column - 1]
    else:
        middle = [text.line(number) for number in range(opened.line + 1, line)]
        written = "\n".join([text.line(opened.line)[opened.start :], *middle, text.line(line)[: column - 1]])
    stack: list[_Frame] = []
    pending = ""
    for found in _FLOW_TOKEN.finditer(written):
        token = found[0]
        if token in ("{", "["):
            stack.append(_Frame(token == "{"))
            pending = ""
        elif token in ("}", "]"):
            if stack:
                stack.pop()
            if not stack:
                return None
            pending = ""
        elif token == "," and stack:
            top = stack[-1]
            stack[-1] = replace(top, key=None, index=top.index + 1)
            pending = ""
        elif token == ":" and stack and stack[-1].mapping and stack[-1].key is None:
            key = pending.strip().strip("\"'")
            stack[-1] = replace(stack[-1], key=key, keys=stack[-1].keys | {key})
            pending = ""
        elif token.lstrip().startswith("#") and token[0].isspace():
            if found.end() == len(written) and "\n" not in token:
                return None if opened.line == line else Cursor((), "", False)
        else:
            pending += token
    if not stack:
        return None
    keys: list[str | int] = list(_keys(chain[: chain.index(opened) + 1]))
    for frame in stack[:-1]:
        keys.append((frame.key or "") if frame.mapping else frame.index)
    top = stack[-1]
    typed = _text_of(pending.lstrip())
    if not top.mapping:
        return Cursor((*keys, top.index), typed, True, flow=True)
    if top.key is not None:
        return Cursor((*keys, top.key), typed, True, flow=True)
    return Cursor(tuple(keys), typed, False, top.keys, flow=True)
