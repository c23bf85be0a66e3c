"""The project's own Python files as syntax trees, parsed once for all tests that look at the code."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def trees() -> dict[Path, ast.Module]:
    """Return the syntax tree of each file of the packages, in the order of their paths."""
    files = [file for folder in ("compiler", "lmprog", "optimizers") for file in sorted((ROOT / folder).rglob("*.py"))]
    return {file: ast.parse(file.read_text(encoding="utf-8")) for file in files}
