"""`lmprog check --fix` and `--diff`: the edits of findings that are safe to make without a person looking."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from lmprog.compiler.findings.finding import Edit, Finding


def fixed_texts(findings: Iterable[Finding]) -> dict[str, str]:
    """Return the new text of each file that has edits, by its name.

    Of edits that overlap only the first is made; the others can be made by fixing again.
    """
    edits: dict[str, list[Edit]] = {}
    for finding in findings:
        if finding.edit is not None:
            edits.setdefault(finding.file, []).append(finding.edit)
    return {file: _edited(Path(file).read_text(encoding="utf-8"), of_file) for file, of_file in edits.items()}


def _edited(text: str, edits: Iterable[Edit]) -> str:
    lines = text.splitlines(keepends=True)
    done: dict[int, int] = {}
    for edit in sorted(set(edits), key=lambda edit: (edit.line, edit.column), reverse=True):
        line = lines[edit.line - 1]
        if edit.end_column > done.get(edit.line, len(line) + 1):
            continue
        lines[edit.line - 1] = line[: edit.column - 1] + edit.text + line[edit.end_column - 1 :]
        done[edit.line] = edit.column
    return "".join(lines)


def unified(texts: Mapping[str, str]) -> str:
    """Return, as a unified diff, how the files change by the new texts that `fixed_texts` returned."""
    parts: list[str] = []
    for file, text in texts.items():
        old = Path(file).read_text(encoding="utf-8").splitlines(keepends=True)
        parts += difflib.unified_diff(old, text.splitlines(keepends=True), f"a/{file}", f"b/{file}")
    return "".join(parts)
