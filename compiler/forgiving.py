"""What small models put around values: words, marks and labels. What was passed over is said in `forgiven`.

A value is taken from among other words only where the words leave no choice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from lmprog.compiler.types import FLOAT, INT, Enum, Type

MARKS = "\"'`*.,:;!?()[]<> \n\ufeff"
"""What may stand around a single value without a meaning of its own."""
_LABEL = re.compile(r"^[\W_]*[A-Za-z][\w ]{0,40}?(?:[*_`\"']*\s*[:=]|\bis\b)\s*(\S.*)$", re.DOTALL)
_NUMBER = re.compile(
    r"(?<![\w.,])[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w%/]|[.,]\d)"
)
_NEGATED = re.compile(r"(?:\b(?:not|no|never|neither|nor|without)|n't)\s+(?:\w+\s+)?[\W_]*$", re.IGNORECASE)
_THOUGHT = "</think>"


class Unreadable(Exception):
    """A reply that does not hold the outputs; the message says what is wrong with it, fit to be shown to the model."""


def without_thinking(names: Iterable[str], text: str, forgiven: list[str]) -> str:
    """The reply after a `<think>` block; the block's beginning may stand in the prompt. Others are left as they are."""
    end = text.find(_THOUGHT)
    if end < 0 or "think" in names:
        return text
    before = text[:end].lstrip("\ufeff \n\t\r")
    if not before.startswith("<think>") and before.startswith(("{", "[", '"', *(f"<{name}>" for name in names))):
        return text
    if "<think>" in before[1:]:
        return text
    forgiven.append("a <think> block before the reply")
    return text[end + len(_THOUGHT) :].lstrip()


def one_of(text: str, kind: Enum, forgiven: list[str]) -> str:
    """The value of the enum that a text says, or the text itself where it says none or more than one."""
    stripped = text.strip()
    if text in kind.values or stripped in kind.values:
        return text if text in kind.values else stripped
    by_word: dict[str, str | None] = {}
    for value in kind.values:
        word = _folded(value)
        by_word[word] = None if word in by_word else value
    if found := by_word.get(_folded(stripped.strip(MARKS))):
        forgiven.append("case, quotes or punctuation around an enum value")
        return found
    labelled = _LABEL.match(stripped)
    if labelled and (found := by_word.get(_folded(labelled[1].strip(MARKS)))):
        forgiven.append("a label before an enum value")
        return found
    if found := by_word.get(_mentioned(stripped, by_word) or ""):
        forgiven.append("words around an enum value")
        return found
    return stripped


def _folded(text: str) -> str:
    return re.sub(r"[\s_-]+", "_", text.lower())


def _mentioned(text: str, words: Iterable[str]) -> str | None:
    """The one word of `words` that stands in the text; None where there are several, or where it is denied.

    Words of one or two letters are passed over: `a` and `no` stand in texts that mean neither.
    """
    longest = sorted((word for word in words if len(word) > 2), key=len, reverse=True)
    if not longest:
        return None
    pattern = "|".join(re.escape(word).replace("_", r"[\s_-]+") for word in longest)
    mentions = list(re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", text, re.IGNORECASE))
    said = {_folded(mention[0]) for mention in mentions}
    denied = any(_NEGATED.search(text[: mention.start()]) for mention in mentions)
    return said.pop() if len(said) == 1 and not denied else None


def truth(name: str, text: str, forgiven: list[str]) -> bool:
    """Whether a text says true or yes, or false or no. Raises Unreadable."""
    lowered = text.strip(MARKS).lower()
    if lowered not in _TRUTHS:
        labelled = _LABEL.match(text)
        first = re.match(r"(\w+)\W*[,.;:!\n]", text.lstrip(MARKS))
        lowered = (labelled[1] if labelled else first[1] if first else "").strip(MARKS).lower()
    if lowered not in _TRUTHS:
        raise Unreadable(f"{name}: {text[:60]!r} is neither true nor false")
    if lowered != text:
        bare = text.strip(MARKS).lower() == lowered
        forgiven.append("case or quotes around a truth value" if bare else "words around a truth value")
    return _TRUTHS[lowered]


_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}


def number(name: str, text: str, kind: Type, forgiven: list[str]) -> int | float:
    """The number that a text says. Raises Unreadable for none, several, a share in percent, or one out of range."""
    bare = text.strip("\"'`*_ \n\ufeff").removesuffix(".")
    written = bare if _NUMBER.fullmatch(bare) else None
    if written is None:
        among = _NUMBER.findall(text) if len(re.findall(r"\d+(?:[.,]\d+)*", text)) == 1 else []
        written = among[0] if among else None
    whole = re.sub(r"\.0+$", "", written) if written and kind == INT else written
    if whole is None or (kind == INT and not re.fullmatch(r"[-+]?[\d,]+", whole)):
        raise Unreadable(f"{name}: {text[:60]!r} is not {'a whole number' if kind == INT else 'a number'}")
    if written != bare:
        forgiven.append("words around a number")
    elif bare != text or "," in text:
        forgiven.append("quotes or separators in a number")
    if whole != written:
        forgiven.append("a whole number with decimals")
    return _value(name, whole.replace(",", ""), kind)


def _value(name: str, digits: str, kind: Type) -> int | float:
    try:
        value = float(digits) if kind == FLOAT else int(digits)
    except ValueError:  # Python reads no whole number of more than 4300 digits
        raise Unreadable(f"{name}: {digits[:60]!r}... has too many digits") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise Unreadable(f"{name}: {digits[:60]!r} is too large for a number")
    return value


def lines(names: Iterable[str], text: str) -> dict[str, str]:
    """The values of lines such as `name: value` or `**Name:** value`; each goes on until the next begins."""
    by_word = {_folded(name): name for name in names}
    words = "|".join(re.escape(word).replace("_", "[ _-]") for word in by_word)
    opened = re.compile(rf"^[ \t>*#_`-]*({words})[*_`]*[ \t]*:[*_`]*", re.IGNORECASE | re.MULTILINE)
    starts = [start for start in opened.finditer(text) if _folded(start[1]) in by_word]
    ends = [*(start.start() for start in starts[1:]), len(text)]
    found: dict[str, str] = {}
    for start, end in zip(starts, ends, strict=False):
        found.setdefault(by_word[_folded(start[1])], text[start.end() : end].strip())
    return found


def by_name(names: Iterable[str], found: Mapping[str, object], forgiven: list[str]) -> dict[str, object]:
    """The fields of an object under the names that were asked for: `Label` for `label`, where that is not there."""
    folded = {_folded(key): key for key in found}
    named = dict(found)
    for name in names:
        if name not in found and _folded(name) in folded:
            forgiven.append("another spelling of a field's name")
            named[name] = found[folded[_folded(name)]]
    return named
