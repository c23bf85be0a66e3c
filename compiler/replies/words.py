"""Extraction of one value from a reply in words.

A value is taken where the words leave no choice: alone, behind a label, or in a sentence that names no other value and neither
denies, doubts, asks nor refuses. Skipped text is reported in `forgiven`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from lmprog.compiler.replies.denial import denies, undecided
from lmprog.compiler.replies.spelling import MARKS, folded
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.compiler.types.lattice import FLOAT, INT, Enum, Type

MAX_CHARACTERS = 20_000
"""Characters of a reply beyond which no value is looked for among its words."""
_LABEL = re.compile(r"^[\W_]*(?P<label>[A-Za-z][\w ]{0,40}?)(?:[*_`\"']*\s*[:=]|\bis\b)\s*(?P<value>\S.*)$", re.DOTALL)
_REASON = re.compile(r"\b(?:because|since|as|due to)\b", re.IGNORECASE)
_EXPLAINED = re.compile(
    r"\n[ \t]*[*_#>-]*[ \t]*(?:reason(?:ing|s)?|explanation|rationale|justification|why|because|note)\b[*_]*[ \t]*:",
    re.IGNORECASE,
)
"""The beginning of a paragraph that explains the value before it."""
_TAGGED = re.compile(r"^\s*<([A-Za-z]\w{0,40})>(?P<value>[^<>]*)</\1>\s*$")
_SENTENCE = re.compile(r"[^\n.!?。！？;]*(?:[.!?;](?![\s\"')\]*`_]|$)[^\n.!?。！？;]*)*(?:[.!?。！？;]+|\n+|$)")


def one_of(text: str, kind: Enum, forgiven: list[str], cut: bool = False) -> str:
    """Return the only value of the enum that a text names, alone, behind a label or in a sentence that means it; the text
    itself, without blanks around it, where it names none or several, or denies, doubts or asks. Repairs are added to
    `forgiven`.

    With `cut` the text ended at a limit: raises Unreadable for a value alone or behind a label that begins a longer one.
    """
    stripped = text.strip()
    whole = text if text in kind.values else stripped if stripped in kind.values else None
    by_word: dict[str, str | None] = {}
    for value in kind.values:
        word = folded(value.strip(MARKS)) or folded(value)
        by_word[word] = None if word in by_word else value
    if whole is not None:
        if cut and _begins_another(folded(whole), kind):
            raise Unreadable(f"{whole!r} may be the beginning of a longer value")
        return whole
    if len(text) > MAX_CHARACTERS:
        return stripped
    chosen: str | None
    note = "case, quotes or punctuation around an enum value"
    whole_text, stripped = stripped, _said(stripped)
    labelled = _LABEL.match(stripped)
    if bare := by_word.get(folded(stripped.strip(MARKS))):
        chosen = None if _asks(stripped, bare) else bare
    elif labelled and (said := by_word.get(folded(labelled["value"].strip(MARKS)))):
        label = labelled["label"]
        other = by_word.get(folded(label), said) != said
        refused = other or denies(label) or undecided(label) or _asks(stripped, said)
        chosen = None if refused else said
        note = "a label before an enum value"
    elif not cut and (first := _answered(stripped, by_word)):
        chosen = first
        note = "words around an enum value"
    elif mention := _mentioned(stripped, by_word, cut):
        chosen = by_word[mention]
        note = "words around an enum value"
    else:
        chosen = None
    if chosen is None:
        return whole_text
    if stripped != whole_text and note == "case, quotes or punctuation around an enum value":
        note = "words around an enum value"
    if cut and note != "words around an enum value" and _begins_another(folded(chosen), kind):
        raise Unreadable(f"{chosen!r} may be the beginning of a longer value")
    forgiven.append(note)
    return chosen


def _said(text: str) -> str:
    """Return a reply without the paragraph that explains it, the tags that stand around all of it, and the backslashes that
    Markdown has before `_`.

    A reply that refuses, or takes something back, is left with its explanation.
    """
    explained = _EXPLAINED.search(text)
    if explained and text[: explained.start()].strip(MARKS) and not undecided(text):
        text = text[: explained.start()]
    tagged = _TAGGED.match(text)
    return (tagged["value"] if tagged else text).replace("\\_", "_").strip()


def _answered(text: str, by_word: Mapping[str, str | None]) -> str | None:
    """Return the value of an enum that is spelt `yes`, `no`, `true` or `false` and that a reply begins with as the answer to
    a question; None for other beginnings, and where the rest names another value or says the opposite. `by_word` has the
    values by their folded spelling (None: two have it)."""
    first = _FIRST.match(text.lstrip(MARKS))
    word = first[1].lower() if first else ""
    if word not in _TRUTHS or word not in by_word or undecided(text) or _asks(text, ""):
        return None
    others = "|".join(re.escape(other) for other in by_word if other and other != word)
    rest = text.lstrip(MARKS)[len(word) :]
    if others and re.search(rf"(?<![\w-])(?:{others})(?![\w-])", rest, re.IGNORECASE):
        return None
    return None if _contradicts(word, rest) else by_word[word]


def _contradicts(word: str, rest: str) -> bool:
    """Return whether the `rest` of a reply whose first word is `word` (yes, no, true or false) says the opposite, in a
    sentence that does not deny it."""
    opposite = _OPPOSITE[_TRUTHS[word]]
    for sentence in _SENTENCE.finditer(rest):
        others, count = opposite.subn("", sentence[0])
        if count and not denies(others):
            return True
    return False


def _begins_another(word: str, kind: Enum) -> bool:
    return any(folded(value).startswith(word) and folded(value) != word for value in kind.values)


def _asks(text: str, value: str) -> bool:
    return text.rstrip(MARKS.replace("?", "")).endswith("?") and not value.endswith("?")


def _mentioned(text: str, words: Iterable[str], cut: bool) -> str | None:
    """Return the one word of `words` that stands in the text; None where there are several, or where it is not meant.

    Words of one or two letters are passed over: `a` and `no` stand in texts that mean neither.
    """
    longest = sorted((word for word in words if len(word) > 2), key=len, reverse=True)
    if not longest or undecided(text):
        return None
    pattern = "|".join(re.escape(word).replace("_", r"[\s_-]+") for word in longest)
    named = re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.IGNORECASE)
    said = set()
    for sentence in _SENTENCE.finditer(text):
        mentions = [folded(mention) for mention in named.findall(sentence[0])]
        if not mentions:
            continue
        said.update(mentions)
        before, *others = named.split(sentence[0])
        rest = " ".join([before, *others[:-1], _REASON.split(others[-1])[0]])
        ended = sentence.end() < len(text) or sentence[0].rstrip()[-1:] in tuple(".!。！")
        if denies(rest) or "?" in others[-1] or (cut and not ended):
            return None
    return said.pop() if len(said) == 1 else None


def truth(name: str, text: str, forgiven: list[str], cut: bool = False) -> bool:
    """Return the bool that a text says by true or yes, false or no: alone, behind a label, or as its first word; repairs are
    added to `forgiven`. Raises Unreadable, naming the output `name`, for neither or both, for a question, and for a `cut`
    text (ended at a limit) that ends in `no`."""
    written, text = text, _said(text) if len(text) <= MAX_CHARACTERS else text
    lowered = text.strip(MARKS).lower() if len(text) <= MAX_CHARACTERS else ""
    if lowered not in _TRUTHS and len(text) <= MAX_CHARACTERS:
        labelled = _LABEL.match(text)
        if labelled and (denies(labelled["label"]) or undecided(labelled["label"])):
            labelled = None
        first = _FIRST.match(text.lstrip(MARKS))
        said = "" if undecided(text) or _BOTH.match(text.lstrip(MARKS)) else first[1] if first else ""
        if said.lower() in _TRUTHS and _contradicts(said.lower(), text.lstrip(MARKS)[len(said) :]):
            said = ""
        lowered = (labelled["value"] if labelled else said).strip(MARKS).lower()
    if lowered not in _TRUTHS or _asks(text, "") or (cut and text.lower().endswith("no")):
        raise Unreadable(f"{name}: {written[:60]!r} is neither true nor false")
    if lowered != written:
        bare = written.strip(MARKS).lower() == lowered
        forgiven.append("case or quotes around a truth value" if bare else "words around a truth value")
    return _TRUTHS[lowered]


_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
_OPPOSITE = {
    True: re.compile(r"\b(?:false|incorrect|untrue|wrong)\b", re.IGNORECASE),
    False: re.compile(r"\b(?:true|correct|yes)\b", re.IGNORECASE),
}
_FIRST = re.compile(r"(\w+)\W*[,.;:!\n]")
_BOTH = re.compile(r"(?:yes|no|true|false)\W*(?:\bor\b|\band\b)?\W*(?:yes|no|true|false)\b", re.IGNORECASE)

_MINUS = str.maketrans({"\u2212": "-", "\uff0d": "-", "\ufe63": "-"})
_DIGITS = r"(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
_WHOLE = re.compile(rf"[-+]?{_DIGITS}")
_NUMBER = re.compile(rf"(?<![\w.,+\-\u2010-\u2015/])(?:[$€£¥]\s?)?([-+]?{_DIGITS})(?:\s?[$€£¥])?(?![\w%‰°/+]|[.,]\d)")
_ANY_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_BEFORE = re.compile(
    r"(?:^|[:=\[({#*_`\"'\n]|(?<=[\w\"'/])>|"
    r"\b(?:is|are|was|were|be|equals?|equal to|total of|score of|rating of|value of|count of|sum of|"
    r"therefore|answer|say|rate|rated|give|gives|gave|choose|pick|it|this|that|count|counted|get|got|have|has|"
    r"comes to|amounts to|sums to|adds up to|a|an|the|exactly|so|just)|[-=]>|→)[\s$€£¥*_`\"'({\[]*$",
    re.IGNORECASE,
)
"""Text before a number that is meant as the value."""
_AFTER = re.compile(r"[\s*_`\"'\])}]*(?:$|[.,;:!)\n]|\b(?:because|since|as|for|so|given)\b)")
"""Text after a number that has no unit of its own."""
_SCALED = re.compile(
    r"\b(?:minus|negative|below|under|over|above|more|less|fewer|least|most|about|around|approx\w*|roughly|nearly|almost|between|"
    r"from|than|up to|per ?cent|pct|points?|half|dozen|hundreds?|thousands?|[mbtr]+illions?|lakh|crore|degrees?)\b|[~≈<≤≥±]",
    re.IGNORECASE,
)
"""Words and signs beside a number that change it."""
_LISTED = re.compile(r"^\W*1[.)]\s+\S")
"""The first item of a list, whose number is no value."""
_NUMBERED = re.compile(r"\b(?:no|nos|nr|num|art|fig|sec|p|pp)\.\s*$", re.IGNORECASE)
"""Abbreviations before the number of a thing."""


def number(name: str, text: str, kind: Type, forgiven: list[str], cut: bool = False) -> int | float:
    """Return the only number in a text, of the type `kind` (int, also from `3.0`, or float); repairs are added to
    `forgiven`. Raises Unreadable, naming the output `name`, for none, several, one with a unit that is not the output's
    name, one whose sentence denies or scales it, one too large for Python, and a number at the end of a `cut` text
    (ended at a limit)."""
    plain = _said(text).translate(_MINUS) if len(text) <= MAX_CHARACTERS else ""
    bare = plain.strip("\"'`*_ \n\ufeff").removesuffix(".")
    written = bare if _WHOLE.fullmatch(bare) else None
    if written is None:
        written = _among_words(name, plain)
    whole = re.sub(r"\.0+$", "", written) if written and kind == INT else written
    if whole is None or (kind == INT and not re.fullmatch(r"[-+]?[\d,]+", whole)):
        raise Unreadable(f"{name}: {text[:60]!r} is not {'a whole number' if kind == INT else 'a number'}")
    if cut and plain.rstrip()[-1:].isdigit():
        raise Unreadable(f"{name}: {text[-60:]!r} may be the beginning of a longer number")
    if written != bare:
        forgiven.append("words around a number")
    elif bare != text or "," in text:
        forgiven.append("quotes or separators in a number")
    if whole != written:
        forgiven.append("a whole number with decimals")
    return value_of(name, whole.replace(",", ""), kind)


def _among_words(name: str, text: str) -> str | None:
    """Return the digits of the only number of a text, where its sentence says that it is the value of the output `name`;
    None elsewhere."""
    number = _NUMBER.search(text)
    if number is None or len(_ANY_NUMBER.findall(text)) != 1 or undecided(text) or _LISTED.match(text):
        return None
    start = number.start()
    if _NUMBERED.search(text[max(0, start - 10) : start]):
        return None
    begin = max(text.rfind(end, 0, start) for end in ("\n", ". ", "! ", "? ")) + 1
    rest = text[number.end() :]
    end = re.search(r"[.!?](?:\s|$)|\n", rest)
    before, after = text[begin : number.start()], rest[: end.end() if end else len(rest)]
    if denies(before + " " + after) or _SCALED.search(before + " " + after) or "?" in after:
        return None
    unit = re.match(r"\s*([A-Za-z]+)", rest)
    if unit is not None and _named(unit[1], name):
        rest = rest[unit.end() :]
        there_are = re.search(r"\b(?:are|is|were|was|be)\s*$", before) is not None
        return number[1] if _AFTER.match(rest) or there_are else None
    return number[1] if _AFTER.match(rest) and _BEFORE.search(before[-80:]) else None


def _named(unit: str, name: str) -> bool:
    """Return whether an output is named for a unit, as `minutes` is for minutes."""
    return unit.lower().removesuffix("s") in {word.removesuffix("s") for word in folded(name).split("_")}


def value_of(name: str, digits: str, kind: Type) -> int | float:
    """Return the number written by `digits` (without separators), as a float for `kind` FLOAT, else as an int, for
    which they have no decimals. Raises Unreadable, naming the output `name`, for one that is too large."""
    try:
        value = float(digits) if kind == FLOAT else int(digits)
    except ValueError:  # Python reads no whole number of more than 4300 digits
        raise Unreadable(f"{name}: {digits[:60]!r}... has too many digits") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise Unreadable(f"{name}: {digits[:60]!r} is too large for a number")
    return value
