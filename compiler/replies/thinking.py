"""Removal of a model's thinking from its reply: text within tags such as `<think>` is no answer.

A block that is closed is left out; one that is not closed leaves no answer; an end without a beginning (which may stand in the
prompt) ends the thinking before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TypeVar

from lmprog.compiler.replies.unreadable import Unreadable

T = TypeVar("T")
Mark = re.Match[str]
Region = tuple[int, T | None]
"""The end of a region, and the value found in it."""
MAX_MARKS = 5_000
"""Marks in one reply beyond which it is refused unread."""
_NAMES = (
    r"think(?:ing)?|thoughts?|reasoning|scratchpad|antthinking|reflection|chain_of_thought|cot|"
    r"(?:thought|thinking)_process|inner_(?:thoughts?|monologue)"
)
_MARK = re.compile(
    rf"<(?P<end>/?)[ ]?(?:antml:|seed:)?(?P<name>{_NAMES})(?:\s[^<>]*)?>"
    r"|\[(?P<end2>/?)THINK\]|◁(?P<end3>/?)think▷"
    r"|<\|(?:begin_of_thought|START_THINKING)\|>|(?P<end4><\|(?:end_of_thought|END_THINKING)\|>)"
    r"|<\|channel\|>(?:analysis|commentary)[^<>]{0,80}<\|message\|>"
    r"|(?P<end5>(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final[^<>]{0,80}<\|message\|>)",
    re.IGNORECASE,
)
"""Tags, and the special tokens of models whose server has left them in the text; the last two are of gpt-oss."""
_FENCE = re.compile(r"^[ \t]*```.*$", re.MULTILINE)


def marks(text: str, kept: Collection[str] = ()) -> list[Mark]:
    """Return the thinking tags in a text, in order, except tags of the names `kept` (in any case), which are sections.
    Raises Unreadable for more than MAX_MARKS (5,000).
    """
    names = {name.lower() for name in kept}
    return [mark for mark in _marks(text) if _name(mark) not in names]


@lru_cache(maxsize=4)
def _marks(text: str) -> tuple[Mark, ...]:
    """Return all thinking marks of a text; the last few texts are kept, since each has several readers."""
    if "<" not in text and "[" not in text and "◁" not in text:
        return ()
    found = tuple(islice(_MARK.finditer(text), MAX_MARKS + 1))
    if len(found) > MAX_MARKS:
        raise Unreadable(f"it holds more than {MAX_MARKS:,} thinking marks")
    return found


def regions(
    text: str,
    found: Sequence[Mark],
    opening: re.Pattern[str] | None,
    take: Callable[[Mark], Region[T]],
    forgiven: list[str],
) -> list[T]:
    """Return the results of `take` for each place where `opening` matches outside of thinking, in order (`opening`
    None: no places). Results before an end of thinking without a beginning are dropped: they were thinking.

    `found` are the thinking tags of the text; `take` reads a region from its start and returns its end and its value
    (None: it is left out), and a tag inside the region is part of it. Repairs are added to `forgiven`. Each character
    is passed once. Raises Unreadable for thinking that does not end.
    """
    walk = _Walk(text, found, forgiven)
    taken: list[T] = []
    opened = opening.search(text) if opening is not None else None
    while True:
        if opened is not None and opening is not None and opened.start() < walk.position:
            opened = opening.search(text, walk.position)
        mark = walk.next_mark()
        if opened is not None and (mark is None or opened.start() < mark.start()):
            end, value = take(opened)
            walk.position = max(end, opened.end())
            if value is not None:
                taken.append(value)
        elif mark is None:
            return taken
        elif walk.skip_block(mark):
            taken.clear()


def answer(text: str, forgiven: list[str], kept: Collection[str] = ()) -> str:
    """Return a reply without its thinking, wherever that stands, and without the blanks behind thinking at its
    beginning. Raises Unreadable for thinking that does not end, or that is all of the reply. Repairs are added to
    `forgiven`. `kept` are names of sections, whose tags are no thinking."""
    return _without(text, marks(text, kept), forgiven)


def prose(text: str, forgiven: list[str], kept: Collection[str] = ()) -> str:
    """Return a free text without thinking that begins at the start of a line, and without the blanks behind thinking at
    its beginning; tags elsewhere are part of the text.

    `kept` are names of sections, whose tags are no thinking. Raises Unreadable for thinking that does not end, or that is
    all of the text. Repairs are added to `forgiven`.
    """
    found = marks(text, kept)
    if not found:
        return text
    fences = [fence.start() for fence in _FENCE.finditer(text)]
    return _without(text, list(_leading(text, found, fences)), forgiven)


def _leading(text: str, found: Sequence[Mark], fences: Sequence[int]) -> Iterator[Mark]:
    """Yield the marks of blocks that begin a line outside of code fences, and ends that have no beginning."""
    passed, within, previous = 0, 0, 0
    for mark in found:
        while passed < len(fences) and fences[passed] < mark.start():
            passed += 1
        before = text[max(previous, text.rfind("\n", previous, mark.start()) + 1) : mark.start()]
        leads = not before.strip(" \t\r\n\ufeff>") and passed % 2 == 0
        if mark[0].startswith("<|"):  # a special token, of which no text speaks
            within, previous = 0, mark.end()
            yield mark
            continue
        if text[mark.start() - 1 : mark.start()] == "`":
            continue
        if not ends(mark) and not leads:
            within += 1
        elif ends(mark) and within:
            within -= 1
        elif passed % 2 == 0:
            previous = mark.end()
            yield mark


def _without(text: str, found: Sequence[Mark], forgiven: list[str]) -> str:
    if not found:
        return text
    walk = _Walk(text, found, forgiven)
    parts: list[str] = []
    while (mark := walk.next_mark()) is not None:
        parts.append(text[walk.position : mark.start()])
        if walk.skip_block(mark):
            parts.clear()
    parts.append(text[walk.position :])
    if not any(part.strip() for part in parts):
        raise Unreadable("it holds thinking and no answer")
    if parts and not parts[0].strip():
        return "".join(parts).lstrip()
    return "".join(parts)


class _Walk:
    """A walk through a text from one thinking mark to the next; `position` is the character that it has come to."""

    def __init__(self, text: str, found: Sequence[Mark], forgiven: list[str]) -> None:
        self.text, self.forgiven, self.position = text, forgiven, 0
        self._marks, self._index = found, 0

    def next_mark(self) -> Mark | None:
        """Return the next mark from the position on; None where there is none."""
        while self._index < len(self._marks) and self._marks[self._index].start() < self.position:
            self._index += 1
        return self._marks[self._index] if self._index < len(self._marks) else None

    def skip_block(self, mark: Mark) -> bool:
        """Go behind the block that a mark begins; return whether the mark is an end, so that all before it was thinking.
        Raises Unreadable for a block that does not end."""
        note = f"a <{_name(mark)}> block before the reply"
        if note not in self.forgiven:
            self.forgiven.append(note)
        if ends(mark):
            self.position = mark.end()
            return True
        if mark[0].endswith("/>"):
            self.position = mark.end()
            return False
        open_names: list[str] = []
        for index in range(self._index, len(self._marks)):
            inner = self._marks[index]
            if not ends(inner):
                if not inner[0].endswith("/>"):
                    open_names.append(_name(inner))
                continue
            if open_names[-1] == _name(inner) and not inner["end5"]:
                open_names.pop()
            elif open_names[0] == _name(inner):
                open_names.clear()
            if not open_names:
                self.position = inner.end()
                return False
        raise Unreadable(f"its thinking ({mark[0][:40]}) does not end, so that it holds no answer")


def _name(mark: Mark) -> str:
    return (mark["name"] or "think").lower()


def ends(mark: Mark) -> bool:
    """Return whether a thinking mark closes thinking; the others open it."""
    return any(mark[group] for group in ("end", "end2", "end3", "end4", "end5"))
