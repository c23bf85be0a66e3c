"""Findings and outcomes of tests as Markdown, for the summary of a job; no text of a program is read as Markdown or HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lmprog.boundary.terminal import printable
from lmprog.compiler.findings.finding import Finding
from lmprog.reports.repository import from_root

if TYPE_CHECKING:
    from lmprog.scoring.testing import Outcome

SHOWN = 200
"""The most rows of a table: the summary of a job has a limit of its own."""


def render(findings: Iterable[Finding]) -> str:
    """Return the findings as Markdown: a heading with their counts, and a table of the first SHOWN (200), with the
    number of further ones below; only the heading where there are none."""
    listed = list(findings)
    counts = Counter(finding.severity for finding in listed)
    said = ", ".join(
        f"{counts[kind]} {kind}{'s' if counts[kind] > 1 else ''}"
        for kind in ("error", "warning", "info")
        if counts[kind]
    )
    rows = [
        (
            finding.severity,
            f"{from_root(finding.file)}:{finding.line}",
            f"{finding.message} {finding.code}",
            finding.fix or "",
        )
        for finding in listed
    ]
    return f"### lmprog check: {said or 'no findings'}\n" + _table(("", "place", "finding", "fix"), rows)


def tests(outcomes: Sequence[Outcome], summary: str) -> str:
    """Return the outcomes of tests as Markdown: `summary`, a text with their counts, as the heading, and a table of the first
    SHOWN (200) that neither passed nor only ran (in a dry run), if any.
    """
    rows = [
        (outcome.status, f"{from_root(str(outcome.spec))}: {outcome.name}", outcome.message)
        for outcome in outcomes
        if outcome.status not in ("passed", "ran")
    ]
    return f"### lmprog test: {summary}\n" + _table(("", "test", "why"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of the first rows, with a line on how many more there are; empty without rows."""
    if not rows:
        return ""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(map(literal, row))} |" for row in rows[:SHOWN]]
    more = f"\n{len(rows) - SHOWN} more are not listed.\n" if len(rows) > SHOWN else ""
    return "\n" + "\n".join(lines) + "\n" + more


def literal(text: str) -> str:
    """Return the text so that Markdown shows it as it is, in a cell of a table: each character but letters and digits
    (of any script), spaces and commas becomes a numeric character reference (`&#42;`), and a line break `<br>`.

    Control characters are shown as escapes.
    """
    kept = (
        char if char.isalnum() or char in " ," else f"&#{ord(char)};"
        for char in printable(text.replace("\n", "\u2007"))
    )
    return "".join(kept).replace("&#8199;", "<br>")
