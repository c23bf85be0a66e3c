"""JSON as language models write it: text that is no JSON but has only one meaning is repaired, and each repair is named.

No value is made up: an item that is not there, a text that does not end and a number that is none are refused, and so is a
reply that holds two different values of which either could be meant.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lmprog.compiler.errors import Handled
from lmprog.compiler.replies import thinking

MAX_DEPTH = 150
"""Lists and objects within each other; deeper ones are refused, well before Python's own limit."""
MAX_STEPS = 5_000
"""Values, keys and brackets that are read by the loose rules in one reply, which is slow; strict JSON may be of any length."""


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        for key, value in pairs:
            if value != made[key]:
                raise TwoValues(f"the key {key[:40]!r} stands twice with different values, and either could be meant")
    return made


class TwoValues(Handled, ValueError):
    """The error of JSON that gives one key two different values."""


STRICT = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_once)
"""JSON by its own rules, of finite numbers, in which no key has two different values."""
_OTHER_CONTROL = re.compile(
    r"(?<!\\)(?:\\\\)*\\(?:f(?:rac|orall|lat|box)|b(?:eta|egin|ar|inom|oxed|ullet|oldsymbol|mod|ecause|ackslash|ot)"
    r"|t(?:heta|imes|frac|ilde|riangleq?|extbf|extit|extrm|ext(?=\{))|r(?:ho|ightarrow|ight(?=[)\]|.])|angle|ceil|floor)"
    r"|n(?:abla|otin|eq(?=[ \d\\$])|u(?=[ _^$})])))(?![a-z])"
    r"|(?<!\w)[A-Za-z]:\\[bf]\w"
)
r"""Strict JSON of a control character that is meant otherwise: LaTeX (`\frac`, `\theta`) or a path of Windows."""


def _means_otherwise(text: str) -> bool:
    """Return whether a text of JSON holds an escape that its writer meant as a backslash, as in LaTeX or a path of Windows."""
    return any(f"\\{letter}" in text for letter in "bfnrt") and _OTHER_CONTROL.search(text) is not None


@dataclass
class _Found:
    """A value in a text, and where it stands; `language` is that of the code fence around it."""

    value: Any
    start: int
    end: int
    language: str | None
    forgiven: list[str]


def strict(text: str) -> Any:
    """Return the value of a text that is JSON and nothing else. Raises ValueError for any other text, also for one that
    could be repaired, for NaN and infinite numbers, and for a key with two different values."""
    if _means_otherwise(text):
        raise ValueError("a backslash in it is no escape")
    try:
        return STRICT.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def find(
    text: str, opening: str, forgiven: list[str], cut: bool = False, rank: Callable[[Any], int] = lambda value: 1
) -> Any:
    """Return the value of the JSON in a reply, which may stand in a code fence or among words, after a model's thinking.

    `opening` are the brackets that it may begin with. With `cut` the reply ended at its limit, and open brackets are
    not closed for it. `rank` returns how well a value answers, such as how many of the wanted keys it has: of several
    values the best counts. Repairs are added to `forgiven`. Raises ValueError for JSON that cannot be read or where
    several of the best differ (of rank 0 the first counts instead), LookupError where there is none, and Unreadable for
    thinking that does not end.
    """
    scan = _Scan(text, cut)
    tokens = re.compile(f"[{re.escape(opening)}]|```[\\w-]*")
    marks = thinking.marks(text)
    found = thinking.regions(text, marks, tokens, scan.take, forgiven)
    if not found:
        raise scan.problem or LookupError
    best = max(rank(each.value) for each in found)
    chosen = [each for each in found if rank(each.value) == best]
    if any(each.language in _JSON_FENCES for each in chosen):
        chosen = [each for each in chosen if each.language is None or each.language in _JSON_FENCES]
    if best > 0 and len({json.dumps(each.value, sort_keys=True) for each in chosen}) > 1:
        raise ValueError("it holds two different values, and either could be meant")
    value = chosen[0]
    if value.language is not None:
        forgiven.append("a code fence around JSON")
    forgiven += value.forgiven
    if value.language is not None:
        return value.value
    if not any(mark.start() < value.start for mark in marks) and (text[: value.start] + text[value.end :]).strip(
        "\ufeff \n\t\r"
    ):
        forgiven.append("words around JSON")
    return value.value


_JSON_FENCES = ("", "json", "json5", "jsonc")


class _Scan:
    """A pass through the values of a text from left to right, which `take` reads; each character is read once, or once more
    where it opens no value. `problem` is the first reason why a bracket opens no value (None: each did)."""

    def __init__(self, text: str, cut: bool) -> None:
        self.text, self.cut = text, cut
        self.problem: ValueError | None = None
        self._language: str | None = None
        self._open = 0
        """Brackets that are still open of an object that cannot be read: what stands within them is a part of it."""
        self._counted = 0
        self._shared = _Shared(text.rfind("*/"), loose=_means_otherwise(text))

    def take(self, opened: re.Match[str]) -> tuple[int, _Found | None]:
        """Return where the value ends that a bracket opens, and the value; None in its place for the mark of a code fence, for
        a bracket that opens none, and for a value within an object that cannot be read. Raises ValueError for more loose
        JSON than is read, and for a key with two values."""
        if opened[0].startswith("`"):
            self._shared.step()
            self._language = opened[0].strip("`").lower() if self._language is None else None
            self._open = 0
            return opened.end(), None
        if self._open:
            passed = self.text[self._counted : opened.start()]
            self._open = max(0, self._open - passed.count("}") - passed.count("]"))
        reader = _Reader(self.text, opened.start(), self.cut, self._shared)
        try:
            value, end = reader.whole()
        except (_TooLong, TwoValues):
            raise
        except ValueError as error:
            self.problem = self.problem or error
            if reader.has_key or self._open:
                self._open, self._counted = self._open + reader.depth, reader.position
            return reader.position, None
        if self._open:
            self._counted = end
            return end, None
        return end, _Found(value, opened.start(), end, self._language, reader.forgiven)


class _TooLong(Handled, ValueError):
    """The error of a text with more loose JSON than is read."""


@dataclass
class _Shared:
    """The state that the readers of one text share: where its last `*/` stands (-1: nowhere), whether only the loose rules are
    used (`loose`), and the number of parts read so far (`steps`)."""

    last_comment_end: int
    loose: bool
    steps: int = 0
    endless: dict[str, int] = field(default_factory=dict)
    """The first position, by quote character, from which no string ends."""

    def step(self) -> None:
        """Count one part. Raises _TooLong beyond MAX_STEPS."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise _TooLong(f"it is no JSON by the rules, and has more than {MAX_STEPS:,} parts to be mended")


class _Reader:
    """A reader of one value from the character `start` of a text, by strict JSON, else by the loose rules; its repairs are in
    `forgiven`."""

    def __init__(self, text: str, start: int, cut: bool, shared: _Shared) -> None:
        self.text, self.position, self.cut, self.shared = text, start, cut, shared
        self.forgiven: list[str] = []
        self.depth = 0
        self.has_key = False
        """True once a key and its colon have been read, so that the brackets are those of an object and not of a sentence."""

    def whole(self) -> tuple[Any, int]:
        """Return the value, and where it ends. Raises ValueError where there is none, or more than is read."""
        self.shared.step()
        if not self.shared.loose:
            try:
                return STRICT.raw_decode(self.text, self.position)
            except TwoValues:
                raise
            except RecursionError:
                self.shared.loose = True  # what is nested within it is tried once, and not from each of its brackets
            except ValueError:
                pass
        return self._value(), self.position

    def _value(self) -> Any:
        self.shared.step()
        self._space()
        found = self.text[self.position : self.position + 1]
        if found in ("{", "["):
            self.depth += 1
            if self.depth > MAX_DEPTH:
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
        found: dict[str, Any] = {}
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
            self.has_key = True
            value = self._value()
            if key in found and found[key] != value:
                raise TwoValues(f"the key {key[:40]!r} stands twice with different values, and either could be meant")
            found[key] = value
        return found

    def _list(self) -> list[Any]:
        return [self._value() for _ in self._items("]")]

    def _items(self, closing: str) -> Iterator[None]:
        """Yield once for each item, standing before it; at the end, stand behind the closing bracket."""
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
        endless = self.shared.endless.get(opened)
        found = None
        if endless is None or self.position < endless:
            found = _STRINGS[opened].match(self.text, self.position + 1)
        if found is None:
            self.shared.endless[opened] = min(self.position, endless or self.position)
            self.position += 1
            raise ValueError("a text in it does not end")
        self.position = found.end()
        if opened != '"':
            self.forgiven.append("other quotes than JSON's")
        return self._unescaped(found[1])

    def _unescaped(self, body: str) -> str:
        if re.search(r"[\x00-\x1f]", body):
            self.forgiven.append("a line break in a text of JSON")
        pairs = list(_PAIR.finditer(body)) if "\\" in body else []
        literal = any(map(_is_literal, pairs))
        if literal:
            self.forgiven.append("an escape in JSON that JSON does not have")
        path = 0
        for pair in pairs:
            if literal and _DRIVE.search(body, max(0, pair.start() - 3), pair.start()):
                space = _BLANK.search(body, pair.start())
                path = space.start() if space else len(body)
                break
        written = _PAIR_OR_QUOTE.sub(lambda found: _mended(found, literal, found.start() < path), body)
        return str(json.loads(f'"{written}"', strict=False))

    def _space(self) -> None:
        while True:
            found = _SPACE.match(self.text, self.position)
            assert found is not None
            if found[0].strip():
                self.forgiven.append("a comment in JSON")
            self.position = found.end()
            if not self.text.startswith("/*", self.position) or self.shared.last_comment_end < self.position + 2:
                return
            self.forgiven.append("a comment in JSON")
            self.position = self.text.index("*/", self.position + 2) + 2


_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d"}
_STRINGS = {
    opened: re.compile(rf"([^\\{closed}]*(?:\\.[^\\{closed}]*)*){closed}", re.DOTALL)
    for opened, closed in _QUOTES.items()
}
_PYTHON = {"True": True, "False": False, "None": None}
_WORD = re.compile(r"[-+\w.]+")
_KEY = re.compile(r"[A-Za-z_][\w-]*")
_SPACE = re.compile(r"(?:\s+|//[^\n]*|#[^\n]*)*")
_PAIR = re.compile(r"\\(u[0-9a-fA-F]{4}|.)(?=([A-Za-z]*))", re.DOTALL)
_PAIR_OR_QUOTE = re.compile(_PAIR.pattern + '|"', re.DOTALL)
_DRIVE = re.compile(r"(?<!\w)[A-Za-z]:$")
_BLANK = re.compile(r"\s")
_COMMANDS = re.compile(
    r"n(?:u|abla|eq?|exists|i|leq|geq|ot|otin|mid)|r(?:ho|ight|ightarrow|angle|ceil|floor|m|oot)|"
    r"t(?:anh?|au|ext|extbf|extit|extrm|frac|heta|ilde|imes|o|op|riangleq?)"
)
"""Commands of LaTeX that begin as an escape of JSON does."""


def _is_literal(pair: re.Match[str]) -> bool:
    """Return whether a backslash and what follows it (`pair`) in a text of JSON is certainly meant as a backslash, and not as
    an escape."""
    if pair[1] in ("n", "r", "t"):
        return _OTHER_CONTROL.match(pair.string, pair.start()) is not None
    if pair[1] in ("b", "f"):
        drive = _DRIVE.search(pair.string, max(0, pair.start() - 3), pair.start())
        return drive is not None or _OTHER_CONTROL.match(pair.string, pair.start()) is not None
    return pair[1] == "u" or (len(pair[1]) == 1 and pair[1] not in "\"'\\/nrt")


def _mended(pair: re.Match[str], literal: bool, in_path: bool) -> str:
    """Return a backslash and what follows it (or a bare quote) as strict JSON writes what is meant. `literal` says that some
    backslash of the text is meant as one, `in_path` that this one stands in a path of Windows."""
    if pair[0] == '"':
        return '\\"'
    if pair[1] == "'":
        return "'"
    command = literal and pair[1] in ("n", "r", "t") and _COMMANDS.fullmatch(pair[1] + pair[2]) is not None
    path = in_path and pair[1] in ("b", "f", "n", "r", "t")
    return "\\\\" + pair[1] if _is_literal(pair) or command or path else pair[0]
