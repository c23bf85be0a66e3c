"""Findings as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterable

from lmprog.compiler.findings.finding import Finding


def render(findings: Iterable[Finding]) -> str:
    """Return the findings as JSON: `{"findings": [{"code", "severity", "file", "line", "column", "message", "fix",
    "path"}]}`. Without a fix `fix` is null, without a path `path` is an empty list."""
    entries = [
        {
            "code": finding.code,
            "severity": finding.severity,
            "file": finding.file,
            "line": finding.line,
            "column": finding.column,
            "message": finding.message,
            "fix": finding.fix,
            "path": list(finding.path),
        }
        for finding in findings
    ]
    return json.dumps({"findings": entries}, indent=2, ensure_ascii=False) + "\n"
