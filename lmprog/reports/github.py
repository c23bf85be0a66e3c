"""Findings as GitHub workflow commands, which GitHub shows beside the lines of a pull request."""

from __future__ import annotations

from collections.abc import Iterable

from lmprog.compiler.findings.finding import Finding

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(findings: Iterable[Finding]) -> str:
    """Render the findings, one `::error file=...,line=...,col=...,title=...::message` a line."""
    return "".join(_line(finding) + "\n" for finding in findings)


def _line(finding: Finding) -> str:
    message = finding.message
    if finding.path:
        message += "\npath: " + " -> ".join(finding.path)
    if finding.fix:
        message += f"\nfix: {finding.fix}"
    end = finding.column + finding.length - 1
    options = (
        f"file={_option(finding.file)},line={finding.line},col={finding.column},endColumn={end},title={finding.code}"
    )
    return f"::{_LEVELS[finding.severity]} {options}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _option(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
