"""The folder of small faulty inputs that stands beside the project, where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"


def case(*parts: str) -> Path:
    """Return a file or folder of the cases; the test is skipped where there is none."""
    path = CASES.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {'/'.join(('shared', 'cases', *parts))} beside the project")
    return path
