"""The fixes that an editor offers: edits of a file that mend, or ignore, what a check found in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmprog.compiler.findings.finding import UNSILENCEABLE, Edit, Finding, Report
from lmprog.compiler.yaml import reader
from lmprog.compiler.yaml.source import Source
from lmprog.editing.session import Session


@dataclass(frozen=True)
class Action:
    """Edits of a file that the editor offers together under a title, and the findings that they mend or ignore (empty for the
    action of the whole file).

    An editor applies a `preferred` action by its key for fixes; `whole_file` marks the action that makes all safe changes of
    the file.
    """

    title: str
    edits: tuple[Edit, ...]
    findings: tuple[Finding, ...] = ()
    """The findings that it mends or ignores."""
    preferred: bool = False
    whole_file: bool = False
    """True for the action that makes all safe changes of the file."""


def actions(session: Session, path: Path, first: int, last: int) -> list[Action]:
    """Return the actions that an editor offers for the findings of lines `first` to `last` (from 1, both included) of a file:
    for each finding one that mends it, where the check has an edit for it, and one that ignores it by a comment, where a
    comment may and the line has room for one.

    The last action makes all safe changes of the whole file, wherever the findings are; it is absent where there are none.
    """
    findings = session.checked(path).by_file[path]
    found = []
    for finding in findings:
        if not first <= finding.line <= last:
            continue
        if finding.edit is not None:
            title = (finding.fix or f"write {finding.edit.text}").rstrip("?")
            title = re.sub(r"^did you mean (`[^`]+`)$", r"write \1", title)
            found.append(Action(title, (finding.edit,), (finding,), preferred=True))
        ignored = _ignored(session, path, finding) if _silenceable(finding) else None
        if ignored is not None:
            found.append(Action(f"ignore {finding.code} on this line", (ignored,), (finding,)))
    safe = tuple(dict.fromkeys(finding.edit for finding in findings if finding.edit is not None))
    if safe:
        found.append(Action("make all safe changes of the file", _apart(safe), whole_file=True))
    return found


def _silenceable(finding: Finding) -> bool:
    """Return whether the editor may offer to ignore a finding by a comment: a warning on a line without such a comment, and
    none on trust (LMP4..), whose comment needs a reason."""
    fatal = finding.code in UNSILENCEABLE and finding.severity == "error"
    noted = "lmprog: ignore" in (finding.snippet or "")
    return finding.severity != "error" and not fatal and not finding.code.startswith("LMP4") and not noted


def _ignored(session: Session, path: Path, finding: Finding) -> Edit | None:
    """Return the edit that adds the comment which ignores a finding to the end of its line; None where the comment would
    change the values of the file, as within a text of several lines."""
    text = session.text(path)
    line = text.line(finding.line)
    end = len(line.rstrip()) + 1
    comment = f"  # lmprog: ignore {finding.code}"
    lines = [*text.lines]
    before = _values(path, lines)
    lines[finding.line - 1] = line[: end - 1] + comment
    return Edit(finding.line, end, len(line) + 1, comment) if _values(path, lines) == before else None


def _values(path: Path, lines: list[str]) -> Any:
    """Return the plain values of a file with these lines; None where they are no YAML."""
    root = reader.parse(Source(path, path.name, "\n".join(lines), path.parent), Report())
    return root.plain() if root is not None else None


def _apart(edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """Return the edits in the order of the file, without those that overlap an earlier one."""
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda one: (one.line, one.column)):
        if not kept or kept[-1].line != edit.line or kept[-1].end_column <= edit.column:
            kept.append(edit)
    return tuple(kept)
