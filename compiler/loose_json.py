"""JSON as language models write it: what is no JSON but has one meaning is read, and each thing forgiven is named.

No value is made up: an item that is not there, a text that does not end and a number that is none are refused.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEEPEST = 150
"""Lists and objects within each other; deeper ones are refused, well before Python's own limit."""
PLACES = 40
"""Most brackets of a text that are tried as the beginning of the JSON in it."""


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


STRICT = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)
"""JSON by its own rules, of finite numbers."""


def find(text: str, opening: str, forgiven: list[str], cut: bool) -> Any:
    """The JSON in a text, which may stand in a code fence or among other words. Raises ValueError.

    `opening` are the brackets that it may begin with; `cut` says that the text ended at a limit, so that nothing is closed.
    """
    fenced = re.search(r"```\w*\s*(.*?)\s*(?:```|$)", text, re.DOTALL)
    inner = fenced[1] if fenced else text
    problem: ValueError | None = None
    places = [found.start() for found in re.finditer(f"[{re.escape(opening)}]", inner)]
    for start in places[:PLACES]:
        reader = _Reader(inner, start, cut)
        try:
            value, end = reader.whole()
        except ValueError as error:
            problem = problem or error
            continue
        if fenced:
            forgiven.append("a code fence around JSON")
        forgiven += reader.forgiven
        if inner[:start].strip("\ufeff \n\t") or inner[end:].strip():
            forgiven.append("words around JSON")
        return value
    raise problem or LookupError


class _Reader:
    """Reads one value from a place of a text."""

    def __init__(self, text: str, start: int, cut: bool) -> None:
        self.text, self.position, self.cut = text, start, cut
        self.forgiven: list[str] = []
        self.depth = 0

    def whole(self) -> tuple[Any, int]:
        """The value, and where it ends. Raises ValueError."""
        try:
            return STRICT.raw_decode(self.text, self.position)
        except (ValueError, RecursionError):
            return self._value(), self.position

    def _value(self) -> Any:
        self._space()
        found = self.text[self.position : self.position + 1]
        if found in ("{", "["):
            self.depth += 1
            if self.depth > DEEPEST:
                raise ValueError("it is nested too deeply")
            value = self._object() if found == "{" else self._list()
            self.depth -= 1
            return value
        if found and found in _QUOTES:
            return self._string()
        word = _WORD.match(self.text, self.position)
        if word is None:
            raise ValueError(f"a value is missing at character {self.position}" if found else "it ends before a value")
        self.position = word.end()
        return self._word(word[0])

    def _word(self, word: str) -> Any:
        if word in _PYTHON:
            self.forgiven.append("a Python literal in JSON")
            return _PYTHON[word]
        try:
            return STRICT.decode(word)
        except ValueError as error:
            raise ValueError(str(error) if "no number" in str(error) else f"{word[:40]} has no quotes") from None

    def _object(self) -> dict[str, Any]:
        found = {}
        for _ in self._items("}"):
            self._space()
            if self.text[self.position : self.position + 1] in tuple(_QUOTES):
                key = self._string()
            else:
                bare = _KEY.match(self.text, self.position)
                if bare is None:
                    raise ValueError(f"a key is missing at character {self.position}")
                key, self.position = bare[0], bare.end()
                self.forgiven.append("a key without quotes in JSON")
            self._space()
            if not self.text.startswith(":", self.position):
                raise ValueError(f"the key {key[:40]!r} has no value")
            self.position += 1
            found[key] = self._value()
        return found

    def _list(self) -> list[Any]:
        return [self._value() for _ in self._items("]")]

    def _items(self, closing: str) -> Any:
        """Once for each item, standing before it; at the end, behind the closing bracket."""
        self.position += 1
        first = True
        while True:
            self._space()
            here = self.text[self.position : self.position + 1]
            if here == closing:
                self.position += 1
                return
            if not here and not first and not self.cut:
                self.forgiven.append("a missing bracket at the end of JSON")
                return
            if first:
                first = False
            elif here == ",":
                self.position += 1
                self._space()
                if self.text.startswith(closing, self.position):
                    self.forgiven.append("a trailing comma in JSON")
                    continue
            elif here and here in _QUOTES:
                self.forgiven.append("a missing comma in JSON")
            else:
                raise ValueError(
                    f"a comma or {closing} is missing at character {self.position}" if here else "its end is missing"
                )
            yield

    def _string(self) -> str:
        opened = self.text[self.position]
        found = re.compile(rf"((?:[^\\{_QUOTES[opened]}]|\\.)*){_QUOTES[opened]}", re.DOTALL).match(
            self.text, self.position + 1
        )
        if found is None:
            raise ValueError("a text in it does not end")
        self.position = found.end()
        if opened != '"':
            self.forgiven.append("other quotes than JSON's")
        return self._unescaped(found[1])

    def _unescaped(self, body: str) -> str:
        if re.search(r"[\x00-\x1f]", body):
            self.forgiven.append("a line break in a text of JSON")
        mended = re.sub(r'\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})(.)', self._plain, body, flags=re.DOTALL)
        mended = re.sub(r'(\\.)|"', lambda found: found[1] or '\\"', mended, flags=re.DOTALL)
        return str(json.loads(f'"{mended}"', strict=False))

    def _plain(self, found: re.Match[str]) -> str:
        if found[1] != "'":
            self.forgiven.append("an escape in JSON that JSON does not have")
        return found[1] if found[1] != "\\" else "\\\\"

    def _space(self) -> None:
        found = _SPACE.match(self.text, self.position)
        assert found is not None
        if found[0].strip():
            self.forgiven.append("a comment in JSON")
        self.position = found.end()


_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d"}
_PYTHON = {"True": True, "False": False, "None": None}
_WORD = re.compile(r"[-+\w.]+")
_KEY = re.compile(r"[A-Za-z_][\w-]*")
_SPACE = re.compile(r"(?:\s+|//[^\n]*|#[^\n]*|/\*.*?\*/)*", re.DOTALL)
