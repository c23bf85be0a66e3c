"""Findings as SARIF 2.1.0, which code scanning reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from lmprog.compiler.findings.explain import title
from lmprog.compiler.findings.finding import Finding

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(findings: Iterable[Finding]) -> str:
    """Render one SARIF log with one run; columns count code points."""
    from lmprog.version import __version__

    findings = list(findings)
    codes = sorted({finding.code for finding in findings})
    run = {
        "tool": {"driver": {"name": "lmprog", "version": __version__, "rules": [_rule(code) for code in codes]}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, codes.index(finding.code)) for finding in findings],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _rule(code: str) -> dict[str, Any]:
    return {"id": code, "shortDescription": {"text": title(code)}, "help": {"text": f"lmprog explain {code}"}}


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    message = finding.message
    if finding.path:
        message += "\nPath: " + " -> ".join(finding.path)
    if finding.fix:
        message += f"\nFix: {finding.fix}"
    region: dict[str, Any] = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endColumn": finding.column + finding.length,
    }
    if finding.snippet is not None:
        region["snippet"] = {"text": finding.snippet}
    uri = PurePath(finding.file).as_posix()
    location = {
        "artifactLocation": {"uri": ("file://" if uri.startswith("/") else "") + quote(uri)},
        "region": region,
    }
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": message},
        "locations": [{"physicalLocation": location}],
    }
    if finding.edit is not None:
        edit = finding.edit
        deleted = {"startLine": edit.line, "startColumn": edit.column, "endColumn": edit.end_column}
        change = {
            "artifactLocation": location["artifactLocation"],
            "replacements": [{"deletedRegion": deleted, "insertedContent": {"text": edit.text}}],
        }
        result["fixes"] = [{"description": {"text": finding.fix or "replace"}, "artifactChanges": [change]}]
    return result
