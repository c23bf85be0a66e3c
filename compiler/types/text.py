"""Parser of types in one text: `list[{title: str, tags: list[str]?}]`, `list[{enum: [a, b]}]`."""

from __future__ import annotations

import re
from collections.abc import Callable

from lmprog.compiler.errors import Handled
from lmprog.compiler.types.lattice import Enum, ListOf, Object, Optional, Type

_TOKEN = re.compile(r"\s*(list\[|[\[\]{},?]|[^\[\]{},?\s][^\[\]{},?]*?(?=\s*[\[\]{},?]|\s*$))")
_FIELD = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*:\s*")
MAX_DEPTH = 20


class TypeTextError(Handled):
    """The error of a text that is no type; the message says why, without the text."""


def read_type(text: str, word: Callable[[str], Type]) -> Type:
    """Return the type that a text writes, such as `list[{a: str}]?`, or raise TypeTextError, as for types nested deeper than
    MAX_DEPTH (20).

    `word` returns the type of a single word in it, such as `int` or `package.module:Model`; its errors come through.
    """
    reader = _Reader(text, word)
    kind = reader.type(0)
    if reader.text[reader.at :].strip():
        raise TypeTextError(f"`{reader.text[reader.at :].strip()}` is too much")
    return kind


class _Reader:
    """A reader of one text of a type from left to right; `at` is the character that it has come to."""

    def __init__(self, text: str, word: Callable[[str], Type]) -> None:
        self.text, self.word, self.at = text, word, 0

    def take(self) -> str:
        """Return the next token and go behind it. Raises TypeTextError at the end of the text."""
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            raise TypeTextError("it ends too early")
        self.at = found.end()
        return found[1]

    def take_if(self, token: str) -> bool:
        """Return whether `token` is the next one; if so, go behind it."""
        found = _TOKEN.match(self.text, self.at)
        if found is None or found[1] != token:
            return False
        self.at = found.end()
        return True

    def expect(self, token: str) -> None:
        """Go behind the next token, which must be `token`. Raises TypeTextError where it is another."""
        if not self.take_if(token):
            raise TypeTextError(f"a `{token}` is missing")

    def type(self, depth: int) -> Type:
        """Return the type that begins here, and go behind it; `depth` is the level of nesting so far. Raises TypeTextError."""
        if depth > MAX_DEPTH:
            raise TypeTextError("it is nested too deeply")
        token = self.take()
        kind: Type
        if token == "list[":
            kind = ListOf(self.type(depth + 1))
            self.expect("]")
        elif token == "{":
            kind = self._object(depth)
        elif token in "[]},?":
            raise TypeTextError(f"`{token}` stands where a type should")
        elif self.text[self.at : self.at + 1] in ("[", "{"):
            raise TypeTextError(f"there is no `{token.strip()}{self.text[self.at]}`, only list[")
        else:
            kind = self.word(token)
        while self.take_if("?"):
            kind = kind if isinstance(kind, Optional) else Optional(kind)
        return kind

    def _object(self, depth: int) -> Type:
        fields: list[tuple[str, Type]] = []
        while True:
            name = _FIELD.match(self.text, self.at)
            if name is None:
                raise TypeTextError("a field is written name: type")
            self.at = name.end()
            if any(name[1] == known for known, _ in fields):
                raise TypeTextError(f"the field `{name[1]}` stands twice")
            if name[1] == "enum" and not fields and self.take_if("["):
                return self._enum()
            fields.append((name[1], self.type(depth + 1)))
            if not self.take_if(","):
                break
        self.expect("}")
        return Object(tuple(fields))

    def _enum(self) -> Type:
        values = [self.take().strip("'\"")]
        while self.take_if(","):
            values.append(self.take().strip("'\""))
        self.expect("]")
        self.expect("}")
        return Enum(tuple(dict.fromkeys(values)))
