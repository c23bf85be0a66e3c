"""benchmarks/calibration.py: its doubles fit the classes of the package, null searches keep nothing, large gains are found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

import calibration

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize("stages", list(calibration.STAGES))
def test_null_searches_of_each_kind_keep_nothing(stages: str) -> None:
    assert calibration.kept(stages, 40, 0, 3, 0.0, "") == 0


@pytest.mark.parametrize("accept", ["composition", "stage"])
def test_a_large_gain_is_mostly_kept(accept: str) -> None:
    assert calibration.kept("two stages", 144, 0, 4, 0.4, accept) >= 2
