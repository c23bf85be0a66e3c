"""`lmprog check --fix` and `--diff`: the edits of findings that are safe to make without a person looking."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from lmprog.compiler.findings.finding import Edit, Finding


def fixed_texts(findings: Iterable[Finding]) -> dict[str, str]:
    """Return the new text of each file for which a finding has an edit, by the file's name; nothing is written.

    Of edits that overlap only the one that begins first is made; the others can be made by fixing again. The files are
    read from the disk, and their line ends become `\\n`. Raises OSError for a file that cannot be read.
    """
    edits: dict[str, list[Edit]] = {}
    for finding in findings:
        if finding.edit is not None:
            edits.setdefault(finding.file, []).append(finding.edit)
    return {file: _edited(Path(file).read_text(encoding="utf-8"), of_file) for file, of_file in edits.items()}


def _edited(text: str, edits: Iterable[Edit]) -> str:
    lines = text.splitlines(keepends=True)
    chosen: list[Edit] = []
    for edit in sorted(set(edits), key=lambda edit: (edit.line, edit.column, edit.end_column, edit.text)):
        if not chosen or (edit.line, edit.column) >= (chosen[-1].line, chosen[-1].end_column):
            chosen.append(edit)
    for edit in reversed(chosen):
        line = lines[edit.line - 1]
        lines[edit.line - 1] = line[: edit.column - 1] + edit.text + line[edit.end_column - 1 :]
    return "".join(lines)


def unified(texts: Mapping[str, str]) -> str:
    """Return a unified diff from the files on the disk to the new texts, by file name, that `fixed_texts` returned.
    Raises OSError for a file that cannot be read."""
    parts: list[str] = []
    for file, text in texts.items():
        old = Path(file).read_text(encoding="utf-8").splitlines(keepends=True)
        parts += difflib.unified_diff(old, text.splitlines(keepends=True), f"a/{file}", f"b/{file}")
    return "".join(parts)
