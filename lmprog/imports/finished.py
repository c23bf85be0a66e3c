"""The end of an import: the program is written, checked, and annotated with what keeps it from passing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lmprog.compiler import compile_file
from lmprog.compiler.findings.finding import Finding
from lmprog.compiler.yaml.whole_file import write_whole
from lmprog.compiler.yaml.writer import unwritable
from lmprog.errors import UsageError
from lmprog.imports.program import SECTIONS, Imported, Note, one_line


@dataclass(frozen=True)
class Finished:
    """The result of an import: `notes`, all remarks that are in the file as comments, and `findings`, those of a check of
    the file as it is now, which runs no user code.
    """

    notes: tuple[Note, ...]
    findings: tuple[Finding, ...]


def finished(made: Imported, target: Path) -> Finished:
    """Write an imported program to the new file `target`, whose folder is made where it is missing, with the errors of
    a check as comments; return its notes (these comments too) and all findings. The check runs no user code.

    Raises UsageError where the program holds what YAML cannot write, FileExistsError where the file exists, and OSError
    where it cannot be written.
    """
    why = unwritable([made.description or "", *(made.program.get(section) or {} for section in SECTIONS)])
    if why is not None:
        raise UsageError(f"{made.origin} holds {why}")
    made = replace(made, notes=tuple(replace(note, text=one_line(note.text)) for note in made.notes))
    write_whole(target, made.text(), new=True)
    findings = compile_file(target, imports=False).findings
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return Finished(made.notes, findings)
    lines = made.text().splitlines()
    made = replace(made, notes=(*made.notes, *dict.fromkeys(_note(finding, lines) for finding in errors)))
    write_whole(target, made.text())
    return Finished(made.notes, compile_file(target, imports=False).findings)


def _note(finding: Finding, lines: list[str]) -> Note:
    """Return a finding as a note of the section whose key stands above it in `lines`, the lines of the program's file."""
    above = [line.partition(":")[0] for line in lines[: finding.line] if line[:1].isalpha()]
    fix = f"; {finding.fix}" if finding.fix else ""
    return Note(above[-1] if above else "file", one_line(f"{finding.message} [{finding.code}]{fix}"), "check")
