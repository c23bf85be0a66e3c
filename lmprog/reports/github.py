"""Findings as GitHub workflow commands, which GitHub shows beside the lines of a pull request."""

from __future__ import annotations

from collections.abc import Iterable

from lmprog.compiler.findings.finding import Finding
from lmprog.reports.repository import from_root

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(findings: Iterable[Finding]) -> str:
    """Return the findings as GitHub's annotations, one
    `::error file=...,line=...,col=...,endColumn=...,title=...::message` a line (warnings with `::warning`, others with
    `::notice`).

    The findings of several files stand in a group for each file; without findings the text is empty.
    """
    by_file: dict[str, list[Finding]] = {}
    for finding in findings:
        by_file.setdefault(finding.file, []).append(finding)
    if len(by_file) < 2:
        return "".join(f"{_line(finding)}\n" for found in by_file.values() for finding in found)
    return "".join(_group(file, found) for file, found in by_file.items())


def _group(file: str, findings: list[Finding]) -> str:
    """Return the annotations of a file's findings in a group that GitHub folds."""
    lines = "".join(f"{_line(finding)}\n" for finding in findings)
    counted = f"{len(findings)} finding{'s' if len(findings) > 1 else ''}"
    return f"::group::{_escaped(from_root(file))}: {counted}\n{lines}::endgroup::\n"


def _line(finding: Finding) -> str:
    """Return the annotation of a finding, on one line."""
    message = finding.message
    if finding.path:
        message += "\npath: " + " -> ".join(finding.path)
    if finding.fix:
        message += f"\nfix: {finding.fix}"
    end = finding.column + finding.length - 1
    place = f"file={_option(from_root(finding.file))},line={finding.line},col={finding.column}"
    options = f"{place},endColumn={end},title={finding.code}"
    return f"::{_LEVELS[finding.severity]} {options}::{_escaped(message)}"


def _escaped(text: str) -> str:
    """Return a text with the characters escaped that would end a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _option(text: str) -> str:
    """Return a text with the characters escaped that would end an option of a workflow command."""
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
