"""Reading of trace files in tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def lines_of(trace: Path, kind: str) -> list[dict[str, Any]]:
    """Return the lines of a trace of one kind: `lm`, `tool`, `run`."""
    return [line for line in map(json.loads, trace.read_bytes().splitlines()) if line["kind"] == kind]


def calls(trace: Path) -> list[dict[str, Any]]:
    """Return the lines of a trace that are calls, without those of whole runs."""
    return [line for line in map(json.loads, trace.read_bytes().splitlines()) if line["kind"] != "run"]
