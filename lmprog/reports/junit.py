"""Findings as JUnit XML: one test case for each finding; errors are failed cases, other findings pass with a message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape, quoteattr

from lmprog.compiler.findings.finding import Finding

_NOT_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def render(findings: Iterable[Finding]) -> str:
    """Return the findings as a JUnit document (XML) with one suite and a case for each: errors are failures, other findings
    pass with their text as output.

    Without findings the suite has one case that passes, since an empty suite counts as no run.
    """
    findings = list(findings)
    failures = sum(finding.severity == "error" for finding in findings)
    cases = [_case(finding) for finding in findings] or ['  <testcase classname="lmprog" name="check"/>']
    return suite("lmprog check", cases, failures, 0)


def suite(name: str, cases: Sequence[str], failures: int, errors: int) -> str:
    """Return a JUnit document with one suite called `name`, which is escaped here, of the test cases, which are XML
    already. `failures` and `errors` are the numbers of cases that have such an element."""
    counts = f'tests="{len(cases)}" failures="{failures}" errors="{errors}" skipped="0"'
    head = f"<testsuite name={attribute(name)} {counts}>"
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, *cases, "</testsuite>"]) + "\n"


def _case(finding: Finding) -> str:
    """Return a finding as a test case (XML)."""
    name = f"{finding.code} line {finding.line}:{finding.column}"
    where = f"  <testcase classname={attribute(finding.file)} name={attribute(name)} "
    where += f'file={attribute(finding.file)} line="{finding.line}">'
    text = escape(clean(str(finding)))
    if finding.severity == "error":
        element = f"    <failure message={attribute(finding.message)} type={attribute(finding.code)}>{text}</failure>"
    else:
        element = f"    <system-out>{text}</system-out>"
    return "\n".join([where, element, "  </testcase>"])


def attribute(text: str) -> str:
    """Return a text as the quoted value of an XML attribute, on one line (line breaks become blanks); characters that
    XML does not allow become `?`."""
    return quoteattr(clean(text).replace("\n", " "))


def clean(text: str) -> str:
    """Return a text with `?` in place of each character that XML does not allow."""
    return _NOT_XML.sub("?", text)
