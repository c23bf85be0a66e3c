"""Findings as JUnit XML: one test case a finding; errors are failures, other findings are told and pass."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from lmprog.compiler.findings import Finding

_NOT_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def render(findings: Iterable[Finding]) -> str:
    """One suite; with nothing found it has one case that passes, since an empty suite counts as no run."""
    findings = list(findings)
    failures = sum(finding.severity == "error" for finding in findings)
    cases = [_case(finding) for finding in findings] or ['  <testcase classname="lmprog" name="check"/>']
    head = f'<testsuite name="lmprog check" tests="{len(cases)}" failures="{failures}" errors="0" skipped="0">'
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, *cases, "</testsuite>"]) + "\n"


def _case(finding: Finding) -> str:
    name = f"{finding.code} line {finding.line}:{finding.column}"
    where = f"  <testcase classname={_attribute(finding.file)} name={_attribute(name)} "
    where += f'file={_attribute(finding.file)} line="{finding.line}">'
    text = escape(_clean(str(finding)))
    if finding.severity == "error":
        told = f"    <failure message={_attribute(finding.message)} type={_attribute(finding.code)}>{text}</failure>"
    else:
        told = f"    <system-out>{text}</system-out>"
    return "\n".join([where, told, "  </testcase>"])


def _attribute(text: str) -> str:
    return quoteattr(_clean(text).replace("\n", " "))


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)
