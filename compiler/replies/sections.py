"""Reading of named sections in a reply, `<name>value</name>`, and of what models write in their place."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice

from lmprog.compiler.replies import thinking
from lmprog.compiler.replies.denial import undecided
from lmprog.compiler.replies.section_text import LAYOUT_AFTER, LAYOUT_BEFORE
from lmprog.compiler.replies.spelling import folded
from lmprog.compiler.replies.unreadable import Unreadable

MAX_SECTIONS = 2_000
"""Sections, or lines in their place, of one reply beyond which it is refused unread."""
MAX_TAGS = 20_000
"""Ends of sections of one reply beyond which it is refused unread, and tags beyond which other spellings are not looked for."""
_COMPLETED = re.compile(r"^\[\[ ##[ ]completed[ ]## \]\][ \t]*$", re.MULTILINE)
"""The line by which a model that was tuned for DSPy's prompts ends its sections."""
_TAG = re.compile(r"<[ ]?(/?)[ ]?([A-Za-z][\w -]{0,60}?)[ ]?(?:\s\w+\s?=[^<>]*)?>")


def _inner(name: str, text: str) -> str:
    """Return the text within a section as its writer meant it: without one line break at either end, and without the
    backslashes that `escaped` puts into its ends."""
    before = LAYOUT_BEFORE.match(text)
    begin = before.end() if before else 0
    after = LAYOUT_AFTER.search(text, max(begin, len(text) - 200))
    return _unescaped(name, text[begin : after.start() if after else len(text)])


def _unescaped(name: str, text: str) -> str:
    return text if "<\\" not in text else re.sub(rf"<\\(\\*)/{re.escape(name)}>", rf"<\1/{name}>", text)


def read(names: Sequence[str], text: str, forgiven: list[str], cut: bool = False) -> dict[str, str]:
    """Return the text of the sections `names` of a reply, by name, outside of its thinking; a name without a section is
    absent.

    A section begins at the start of a line or after another one; one within a line counts where it is closed and no
    other has its name. The first of each name counts. One that is not closed ends where the next one opens. Repairs are
    added to `forgiven`.

    Raises Unreadable for a section within which the reply was `cut` (ended at its limit), for a second value where the
    reply takes the first back, for thinking that does not end, and for more than 2,000 sections or 20,000 ends of them.
    """
    reading = _Reading(names, text, cut)
    marks = thinking.marks(text, names)
    opened = thinking.regions(text, marks, _opening(tuple(names)), reading.take, forgiven)
    counted = [each for each in opened if each.placed]
    placed = {each.name for each in counted}
    counted += [each for each in opened if each.name not in placed and each.closed]
    values: dict[str, str] = {}
    for each in counted:
        values.setdefault(each.name, each.value)
        if not each.closed:
            forgiven.append(f"</{each.name}> is missing")
    other = next((each.name for each in opened if each.closed and values.get(each.name) != each.value), None)
    if other is not None and undecided(reading.between(counted)):
        raise Unreadable(f"the reply takes its {other} back and gives another")
    if counted and reading.words_around(counted, marks):
        forgiven.append("words around the sections")
    return values


class _Section:
    """A section found in a reply: its name, where its tags begin and end, its text, whether it is `closed`, and whether it
    is `placed` at the start of a line or behind another section."""

    def __init__(self, name: str, start: int, end: int, value: str, closed: bool, placed: bool) -> None:
        self.name, self.start, self.end, self.value = name, start, end, value
        self.closed, self.placed = closed, placed


class _Reading:
    """A pass through the sections of one reply, which `take` reads one after another. Raises Unreadable for too many ends."""

    def __init__(self, names: Sequence[str], text: str, cut: bool) -> None:
        self.names, self.text, self.cut = names, text, cut
        self.opening = _opening(tuple(names))
        self.ends: dict[str, list[int]] = {name: [] for name in names}
        for count, end in enumerate(re.finditer(f"</({'|'.join(map(re.escape, names))})>", text)):
            if count > MAX_TAGS:
                raise Unreadable(f"the reply has more than {MAX_TAGS:,} ends of sections")
            self.ends[end[1]].append(end.start())
        self.previous = 0
        self.within_line = 0
        """Behind the last opening that stood within a line, so that what follows it on that line does too."""
        self.count = 0

    def take(self, opened: re.Match[str]) -> tuple[int, _Section | None]:
        """Return the offset behind the section that an opening tag begins, and the section; the offset behind the tag,
        and None, for a tag within a line that is not the one that the next end closes. Raises Unreadable for an open
        section of a reply that was cut, and for too many."""
        self.count += 1
        if self.count > MAX_SECTIONS:
            raise Unreadable(f"the reply has more than {MAX_SECTIONS:,} sections")
        name, text = opened[1], self.text
        bound = max(self.previous, self.within_line)
        line = text.rfind("\n", bound, opened.start())
        placed = not text[max(bound, line + 1) : opened.start()].strip(" \t\r\ufeff>*`-")
        placed = placed and (line >= bound or self.within_line <= self.previous)
        ends = self.ends[name]
        index = bisect_left(ends, opened.end())
        closed = ends[index] if index < len(ends) else -1
        if not placed:
            # Within a line the last opening before an end is the one that it ends: the others are words.
            self.within_line = opened.end()
            if closed < 0 or text.find(f"<{name}>", opened.end(), closed) >= 0:
                return opened.end(), None
        if closed >= 0:
            value, end = _inner(name, text[opened.end() : closed]), closed + len(f"</{name}>")
        else:
            following = self.opening.search(text, opened.end())
            if following is None and self.cut:
                raise Unreadable(f"the section {name} does not end")
            end = following.start() if following else len(text)
            value = _unescaped(name, text[opened.end() : end].strip())
        self.previous = end
        return end, _Section(name, opened.start(), end, value, closed >= 0, placed)

    def between(self, sections: Sequence[_Section]) -> str:
        """Return the text outside of the sections, with a blank in place of each."""
        places = sorted((each.start, each.end) for each in sections)
        begins = [0, *(end for _, end in places)]
        ends = [*(start for start, _ in places), len(self.text)]
        return " ".join(self.text[begin:end] for begin, end in zip(begins, ends, strict=True))

    def words_around(self, sections: Sequence[_Section], marks: Sequence[thinking.Mark]) -> bool:
        """Return whether anything but layout and fences stands around the sections; False where the reply has thinking
        (`marks`), which is not told from words."""
        if marks:
            return False
        between = self.between(sections)
        return bool(between.replace("```", "").strip("\ufeff \n\t\r").removeprefix("xml").strip())


@lru_cache(maxsize=256)
def _opening(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"<({'|'.join(map(re.escape, names))})>")


def respelt(names: Sequence[str], text: str) -> str:
    """Return a text with tags in another spelling (`<The Label>`), or with attributes, replaced by those of `names`
    (`<the_label>`); unchanged where it has more than 20,000 tags."""
    by_word = {name.lower(): name for name in names}

    if len(list(islice(_TAG.finditer(text), MAX_TAGS + 1))) > MAX_TAGS:
        return text

    def tag(found: re.Match[str]) -> str:
        return f"<{found[1]}{by_word.get(re.sub(r'[ -]', '_', found[2].lower()), found[2])}>"

    return _TAG.sub(tag, text)


def lines(names: Iterable[str], text: str, cut: bool = False) -> dict[str, str]:
    """Return the values of lines such as `name: value`, `**Name:** value`, `## Name` or `[[ ## name ## ]]` in a reply
    without sections, by name; a name without such a line is absent.

    Each value goes on until the next such line; the first of each name counts. Raises Unreadable where the reply has such a
    line and was `cut` at its limit, and for more than 2,000 lines.
    """
    by_word = {folded(name): name for name in names}
    words = "|".join(re.escape(word).replace("_", "[ _-]") for word in by_word)
    opened = re.compile(
        rf"^[ \t>*#`-]*+(?:\d{{1,2}}[.)][ \t]*+)?[*_`]*+({words})[*_`]*[ \t]*:[*_`]*"
        rf"|^[ \t>]*+(?:#+[ \t]*+|\*\*|__)({words})(?:\*\*|__)?[ \t]*$|^\[\[ ##[ ]({words})[ ]## \]\][ \t]*$",
        re.IGNORECASE | re.MULTILINE,
    )
    if completed := _COMPLETED.search(text):
        text = text[: completed.start()]
    starts = []
    for start in opened.finditer(text):
        starts.append(start)
        if len(starts) > MAX_SECTIONS:
            raise Unreadable(f"the reply has more than {MAX_SECTIONS:,} sections")
    ends = [*(start.start() for start in starts[1:]), len(text)]
    found: dict[str, str] = {}
    for start, end in zip(starts, ends, strict=False):
        name = by_word[folded(start[1] or start[2] or start[3])]
        value = text[start.end() : end].strip()
        found.setdefault(name, value)
    if starts and cut:
        raise Unreadable(f"{by_word[folded(starts[-1][1] or starts[-1][2] or starts[-1][3])]} does not end")
    return found


def by_name(names: Iterable[str], found: Mapping[str, object], forgiven: list[str]) -> dict[str, object]:
    """Return a new dictionary of the fields of an object (`found`), and for each of `names` that is missing the value
    of a field in another spelling of it, as `Label` of `label`, which is added to `forgiven`; a name without any stays
    missing.
    """
    spelt = {folded(key): key for key in found}
    named = dict(found)
    for name in names:
        if name not in found and folded(name) in spelt:
            forgiven.append("another spelling of a field's name")
            named[name] = found[spelt[folded(name)]]
    return named
