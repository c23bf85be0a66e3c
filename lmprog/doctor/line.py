"""Findings about this machine as lines, and their text and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

Status = Literal["ok", "note", "problem"]
_MARKS: dict[Status, str] = {"ok": "ok", "note": "-", "problem": "!!"}


@dataclass(frozen=True)
class Line:
    """A line of `lmprog doctor`: its section, its name, and in `said` a fact about this machine.

    `status` is `ok`, `note`, or `problem` (it keeps the program from running); `fix` says what to do (None: nothing).
    """

    section: str
    name: str
    status: Status
    said: str
    fix: str | None = None


def text(lines: Iterable[Line]) -> str:
    """Return lines as text, grouped under the names of their sections, each fix below its line. Lines of a section must
    stand together.
    """
    parts = []
    for section, found in groupby(lines, key=lambda line: line.section):
        rows = list(found)
        width = min(34, max(len(row.name) for row in rows))
        parts.append(section)
        for row in rows:
            parts.append(f"  {_MARKS[row.status]:2} {row.name:{width}}  {row.said}".rstrip())
            if row.fix is not None:
                parts.append(f"     {'':{width}}  fix: {row.fix}")
    return "\n".join(parts) + "\n"


def document(lines: Iterable[Line]) -> dict[str, Any]:
    """Return the lines as a dictionary for JSON: `ok` (False if one of them is a problem), and `lines`, each by field
    name."""
    found = list(lines)
    return {"ok": all(line.status != "problem" for line in found), "lines": [asdict(line) for line in found]}
