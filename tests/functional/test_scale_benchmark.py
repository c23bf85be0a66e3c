"""benchmarks/scale.py and benchmarks/cost.py in small forms: each gives its figures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def lines(module: str, *arguments: str) -> dict[str, str]:
    """The table that a benchmark prints, as a dictionary."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^\| (.*) \| (.*) \|$", done.stdout, re.MULTILINE))


@pytest.mark.slow
def test_a_row_has_its_processor_time_here_and_with_workers() -> None:
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    found = lines("scale", "--small", "--case", "processor")
    # What they are is measured and not judged: this machine may be busy.
    assert float(found["processor time of a row here, ms"]) > 0
    assert float(found["with workers / here"]) > 0


@pytest.mark.slow
def test_the_cost_of_a_large_training_follows_from_the_bounds() -> None:
    found = lines("cost", "--rows", "40", "--rollouts", "4", "--steps", "10")
    assert found["runs of the program (40 rows x 4, in 10 steps)"] == "160"
    most, usual = (int(part.replace(",", "")) for part in found["calls: at most; as estimated"].split("; "))
    assert usual == 7 * 160 < most
