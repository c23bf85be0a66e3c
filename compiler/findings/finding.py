"""Findings: what the compiler has to say about a file, where, and what to do about it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from lmprog.compiler.errors import LmprogError

if TYPE_CHECKING:
    from lmprog.compiler.yaml.source import Node, Place, Source

Severity = Literal["error", "warning", "info"]

WARNINGS = frozenset(
    {
        "LMP202",
        "LMP206",
        "LMP208",
        "LMP209",
        "LMP210",
        "LMP404",
        "LMP406",
        "LMP407",
        "LMP503",
        "LMP504",
        "LMP602",
        "LMP606",
        "LMP703",
        "LMP803",
    }
)
"""Codes that are warnings as a rule; a check may say otherwise for a single finding (502, repeated rows in 601)."""

UNSILENCEABLE = frozenset({"LMP101", "LMP102", "LMP103", "LMP201", "LMP207"})
"""Errors of these codes leave no program to run, so that an ignore comment cannot silence them."""

_IGNORE = re.compile(r"#\s*lmprog:\s*ignore\b([^#]*)")
_CODE = re.compile(r"LMP\d{3}")


MAX_SHOWN = 400
"""Characters of a line that a finding shows, around its place."""


@dataclass(frozen=True)
class Edit:
    """A replacement in one line of the finding's file: the characters from `column` up to, but without, `end_column` of
    `line` (all count from 1) become `text`."""

    line: int
    column: int
    end_column: int
    text: str


@dataclass(frozen=True)
class Finding:
    """A problem at a place in a file, as `lmprog check` reports it: its `code` (`LMPnnn`), its `severity` (`error`,
    `warning` or `info`), the place, the message, and how to fix it (`fix`, None: not known). Lines and columns count
    from 1.

    `path` are the steps that lead to it, such as the way of a private value; `snippet` is the line (None: not shown),
    `length` the characters marked, and `edit` a change that fixes it (None: there is none).
    """

    code: str
    severity: Severity
    file: str
    line: int
    column: int
    message: str
    fix: str | None = None
    path: tuple[str, ...] = ()
    """The steps of a flow or a cycle, in order, where the finding has one."""
    snippet: str | None = None
    """The line of the file, without its end."""
    length: int = 1
    """The number of characters of the line that the finding marks."""
    edit: Edit | None = None
    """A change of the text that is safe to make without a person looking."""

    def __str__(self) -> str:
        """Return the finding as text: the place and sentence, the line with a caret, the path and the fix."""
        lines = [f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message} [{self.code}]"]
        if self.snippet is not None:
            number, column = str(self.line), self.column
            shown = self.snippet
            if len(shown) > MAX_SHOWN:
                start = max(0, column - 1 - MAX_SHOWN // 3)
                shown, column = shown[start : start + MAX_SHOWN], column - start
            before = "".join("\t" if char == "\t" else " " for char in shown[: column - 1])
            width = max(1, min(self.length, len(shown) - column + 1))
            lines.append(f"  {number} | {shown}")
            lines.append(f"  {' ' * len(number)} | {before}{'^' * width}")
        if self.path:
            lines.append("  path: " + " -> ".join(self.path))
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class SpecError(LmprogError):
    """The error of a program that cannot run as it is written; `findings` say why, and `str()` is their text."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(self.findings)
        self.place = next((f"{first.file}:{first.line}:{first.column}" for first in self.findings), None)

    def __str__(self) -> str:
        return "\n".join(str(finding) for finding in self.findings)


@dataclass
class Report:
    """The findings of one compilation, collected by its phases; each is kept once, by code, file, line, column and message."""

    findings: dict[tuple[str, str, int, int, str], Finding] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    """Every program file that was read, by the name that findings show, for the ignore comments in them."""
    lost: list[Node] = field(default_factory=list)
    """The nodes that were left out because of a finding; the names that they read count as read."""
    own: frozenset[str] = frozenset()
    """The names of the program's own files, in which ignore comments are checked; of a sub-program not all is checked, so
    that its comments may silence nothing here."""

    def add(
        self,
        code: str,
        place: Place,
        message: str,
        *,
        fix: str | None = None,
        severity: Severity | None = None,
        path: tuple[str, ...] = (),
        edit: Edit | None = None,
    ) -> None:
        """Add a finding at a place, unless one with the same code, line, column and message is there, which stays as
        it is: `code` is `LMPnnn`, `message` a sentence without the place, `fix` says how to mend it (None: not
        known), and `severity` None is that of the code.

        `path` are the steps that lead to it, and `edit` is a change that fixes it; with None, the edit that replaces
        the misspelt word where the fix is "did you mean". Message, fix and path are cut after MAX_CHARACTERS (1000)
        each, and characters in them that are not printable are escaped."""
        finding = Finding(
            code=code,
            severity=severity or ("warning" if code in WARNINGS else "error"),
            file=place.source.name,
            line=place.line,
            column=place.column,
            message=_shown(message),
            fix=None if fix is None else _shown(fix),
            path=tuple(map(_shown, path)),
            snippet=_line(place.source.line(place.line)) if place.source.is_program else None,
            length=place.length,
            edit=edit or _respelled(place, message, fix),
        )
        self.findings.setdefault((code, finding.file, finding.line, finding.column, message), finding)

    @property
    def failed(self) -> bool:
        """True if any finding so far is an error, also one that an ignore comment silences in `settle`."""
        return any(finding.severity == "error" for finding in self.findings.values())

    def settle(self, unused_ignores: bool) -> tuple[Finding, ...]:
        """Return the findings in the order of their places, without those that an ignore comment on their line silences.

        Errors of the codes in UNSILENCEABLE are kept, and findings LMP4xx where the comment gives no reason. With
        `unused_ignores` an ignore comment that silences nothing is a finding (LMP202), in the program's own files and
        on lines without an error.
        """
        ignores: dict[tuple[str, int], dict[str, bool]] = {}
        bare: set[tuple[str, int]] = set()  # those without a reason, which a 4xx wants
        for name, source in self.sources.items():
            if "lmprog:" in source.text:
                for number, text in enumerate(source.lines, start=1):
                    if match := _IGNORE.search(text):
                        codes = dict.fromkeys(_CODE.findall(match[1]), False)
                        ignores[name, number] = codes
                        if not re.search(r"\w", _CODE.sub("", match[1])):
                            bare.add((name, number))
        kept = []
        wrong = {(f.file, f.line, f.column) for f in self.findings.values() if f.code == "LMP101"}
        for finding in self.findings.values():
            if finding.code == "LMP102" and (finding.file, finding.line, finding.column) in wrong:
                continue
            codes = ignores.get((finding.file, finding.line), {})
            fatal = finding.code in UNSILENCEABLE and finding.severity == "error"
            wants_reason = finding.code.startswith("LMP4") and (finding.file, finding.line) in bare
            if finding.code in codes and not fatal and not wants_reason:
                codes[finding.code] = True
            else:
                kept.append(finding)
        if unused_ignores:
            # An error on a line can hide the finding that the comment there is to silence: it is not reported as unused.
            failed = {(finding.file, finding.line) for finding in kept if finding.severity == "error"}
            sure = {place: codes for place, codes in ignores.items() if place not in failed or place in bare}
            kept.extend(self._unused(sure, bare))
        return tuple(sorted(kept, key=lambda f: (f.file, f.line, f.column, f.code, f.message)))

    def _unused(self, ignores: dict[tuple[str, int], dict[str, bool]], bare: set[tuple[str, int]]) -> Iterable[Finding]:
        for (name, number), codes in ignores.items():
            if name not in self.own:
                continue
            text = self.sources[name].line(number) or ""
            comment = _IGNORE.search(text)
            column = comment.start() + 1 if comment is not None else 1
            unused = [code for code, used in codes.items() if not used]
            if codes and not unused:
                continue
            what = f"the ignore of {', '.join(unused)} silences nothing" if codes else "the ignore names no code"
            fix = "remove the comment"
            if unused and unused[0].startswith("LMP4") and (name, number) in bare:
                what = f"the ignore of {', '.join(unused)} gives no reason, so that it silences nothing"
                fix = f"write why behind it: # lmprog: ignore {unused[0]} the text is public"
            yield Finding("LMP202", "warning", name, number, column, what, fix, snippet=text, length=8)


MAX_CHARACTERS = 1000
"""Maximum characters of a message, since the text that it quotes may be of any length."""


def _shown(text: str) -> str:
    """Return a text with its control characters, which a terminal would obey, as escapes, cut at MAX_CHARACTERS."""
    if len(text) > MAX_CHARACTERS:
        text = text[:MAX_CHARACTERS] + "..."
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


@lru_cache(maxsize=64)
def _line(text: str | None) -> str | None:
    """Return a line of a file with `\\ufffd` for each control character but tabs, so that columns stay; None for None."""
    if text is None or text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in text)


_MEANT = re.compile(r"^did you mean `([^`]+)`\?$")
_QUOTED = re.compile(r"`([^`]+)`")


def _respelled(place: Place, message: str, fix: str | None) -> Edit | None:
    """Return the edit that replaces the misspelt word at a place by the word that the fix "did you mean" suggests; None
    for another fix, and where the word does not stand at the place."""
    meant = _MEANT.match(fix or "")
    line = place.source.line(place.line)
    if meant is None or line is None:
        return None
    start, end = place.column - 1, place.column - 1 + place.length
    if line[start:end][:1] in ("'", '"'):
        start, end = start + 1, end - 1
    written = line[start:end]
    for word in sorted(_QUOTED.findall(message), key=len, reverse=True):
        if written == word or written.endswith(f".{word}"):
            return Edit(place.line, end - len(word) + 1, end + 1, meant[1])
    return None


def shown_value(value: object) -> str:
    """Return a value as a message shows it: as JSON (what JSON cannot hold as `repr` writes it), cut to 60 characters,
    of which the last three are dots."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` was probably meant to be, the same where it is known; None where none is near. Near
    are similar names, those with the same letters, and short ones that differ in one letter."""
    known = list(known)
    if name in known:
        return name
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.75)
    if close:
        return close[0]
    letters = sorted(name)
    return next((other for other in known if sorted(other) == letters or _one_letter_apart(name, other)), None)


def _one_letter_apart(name: str, other: str) -> bool:
    """Return whether two words of the same length, 3 or 4 letters, differ in one letter at most, which the similarity
    ratio counts as too much."""
    if len(name) != len(other) or not 3 <= len(name) <= 4:
        return False
    return sum(a != b for a, b in zip(name, other, strict=True)) == 1


def suggestion(name: str, known: Iterable[str], otherwise: str = "known") -> str:
    """Return the fix for an unknown name, as a text: "did you mean" with the nearest known name, else a list of at most 12
    of the known names, which the noun `otherwise` describes; where there are none, that there are none.
    """
    known = list(known)
    close = nearest(name, known)
    if close:
        return f"did you mean `{close}`?"
    if not known:
        return f"there are no {otherwise} here"
    shown = ", ".join(sorted(known)[:12])
    return f"{otherwise}: {shown}" + (", ..." if len(known) > 12 else "")
