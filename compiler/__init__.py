"""YAML text to a checked, executable plan."""

from __future__ import annotations

from lmprog.compiler.compilation import Compilation, compile_file
from lmprog.compiler.findings.finding import Edit, Finding, SpecError
from lmprog.compiler.overlay import write_overlay
from lmprog.compiler.plan import Plan
from lmprog.compiler.rows.files import RowsError
from lmprog.compiler.rows.reading import read_rows
from lmprog.compiler.types.python_reference import ImportFailed

__all__ = [
    "Compilation",
    "Edit",
    "Finding",
    "ImportFailed",
    "Plan",
    "RowsError",
    "SpecError",
    "compile_file",
    "read_rows",
    "write_overlay",
]
