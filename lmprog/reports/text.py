"""Findings as text: place, message, the line with a caret, and the fix."""

from __future__ import annotations

from collections.abc import Iterable

from lmprog.boundary.terminal import printable
from lmprog.compiler.findings.finding import Finding

_COLOURS = {"error": "31", "warning": "33", "info": "36"}


def render(findings: Iterable[Finding], colour: bool = False) -> str:
    """Return the findings as text, a block for each, and a last line that counts them; empty where there are none.

    Control characters of the findings are escaped; with `colour` the text has colour codes of terminals.
    """
    findings = list(findings)
    if not findings:
        return ""
    blocks = [_coloured(finding) if colour else printable(str(finding)) for finding in findings]
    return "\n\n".join([*blocks, _count(findings)]) + "\n"


def _coloured(finding: Finding) -> str:
    """Return the block of a finding with colour codes."""
    code = _COLOURS[finding.severity]
    lines = printable(str(finding)).split("\n")
    mark = f": {finding.severity}: "
    place, _, message = lines[0].partition(mark)
    lines[0] = f"\033[1m{place}\033[0m: \033[{code}m{finding.severity}\033[0m: {message}"
    if finding.snippet is not None:
        bar, _, caret = lines[2].rpartition("|")
        lines[2] = f"{bar}|\033[{code}m{caret}\033[0m"
    return "\n".join(lines)


def _count(findings: list[Finding]) -> str:
    """Return the numbers of findings by severity, as `2 errors, 1 warning`."""
    parts = []
    for severity in ("error", "warning", "info"):
        count = sum(finding.severity == severity for finding in findings)
        if count:
            parts.append(f"{count} {severity}{'s' if count > 1 else ''}")
    return ", ".join(parts)
