"""Findings as SARIF 2.1.0, which code scanning reads."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from lmprog.compiler.findings.explain import page, title
from lmprog.compiler.findings.finding import WARNINGS, Finding
from lmprog.reports.repository import from_root

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"
"""The name by which paths in the log refer to the root of the repository."""
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_FAMILIES = {"1": "file", "2": "types", "3": "termination", "4": "trust", "5": "cost", "6": "data", "7": "optimizing"}
"""The tag of a rule by the first digit of its code; codes with another digit have the tag `language`."""


def render(findings: Iterable[Finding]) -> str:
    """Return the findings as one SARIF log (JSON) with one run: a rule for each code, and a result for each finding, with its
    fix where it has a safe one. Columns count code points, and paths are from the root of the repository.
    """
    from lmprog.version import __version__

    findings = list(findings)
    codes = sorted({finding.code for finding in findings})
    run = {
        "tool": {"driver": {"name": "lmprog", "version": __version__, "rules": [_rule(code) for code in codes]}},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
        "results": [
            _result(finding, codes.index(finding.code), print_) for finding, print_ in _fingerprinted(findings)
        ],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _rule(code: str) -> dict[str, Any]:
    """Return the rule of a code, with the texts of its page."""
    text = page(code) or ""
    body = text.partition("\n")[2].strip()
    described = " ".join(body.partition("\n\n")[0].split())
    return {
        "id": code,
        "name": code,
        "shortDescription": {"text": title(code)},
        "fullDescription": {"text": described or title(code)},
        "help": {"text": f"{body}\n\nlmprog explain {code}".strip(), "markdown": text or title(code)},
        "defaultConfiguration": {"level": "warning" if code in WARNINGS else "error"},
        "properties": {"tags": [_FAMILIES.get(code[3:4], "language")]},
    }


def _fingerprinted(findings: Iterable[Finding]) -> Iterator[tuple[Finding, str]]:
    """Yield each finding with its fingerprint, a text that stays the same where lines move; equal findings have different
    ones.
    """
    seen: Counter[str] = Counter()
    for finding in findings:
        parts = (finding.code, from_root(finding.file), (finding.snippet or "").strip(), finding.message)
        digest = hashlib.sha256("\x1f".join(parts).encode(errors="replace")).hexdigest()[:32]
        seen[digest] += 1
        yield finding, f"{digest}:{seen[digest]}"


def _artifact(file: str) -> dict[str, str]:
    """Return the location of a file: from the root of the repository, or as it is where it lies outside."""
    path = PurePath(from_root(file)).as_posix()
    if path.startswith("/") or path.startswith("../"):
        return {"uri": ("file://" if path.startswith("/") else "") + quote(path)}
    return {"uri": quote(path), "uriBaseId": ROOT}


def _result(finding: Finding, rule: int, fingerprint: str) -> dict[str, Any]:
    """Return a finding as a result of the log; `rule` is the place of its rule among the rules."""
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
    location = {"artifactLocation": _artifact(finding.file), "region": region}
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": message},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"primaryLocationLineHash": fingerprint},
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
