"""The remark that rows are few: it stands or falls by the power of the test."""

from __future__ import annotations

import pytest

from lmprog.scoring.power import WANTED, least_gain, power
from lmprog.scoring.small_samples import GAIN, LEVEL, enough, few


@pytest.mark.parametrize("level", [0.0125, 0.025, 0.05])
def test_enough_rows_show_the_gain_and_fewer_do_not(level: float) -> None:
    rows = enough(level)
    assert power(rows, GAIN, level) >= WANTED
    assert all(power(fewer, GAIN, level) < WANTED for fewer in (1, rows // 2, rows - 10))


def test_the_remark_says_what_the_rows_show() -> None:
    assert few(18) == (
        "18 rows are few: a gain below 35 points would hardly show (with 80% power); 230 rows would show one of 10 points"
    )
    assert few(1) == ("1 row is few: no gain would show (with 80% power); 230 rows would show one of 10 points")
    assert f"below {100 * least_gain(60, LEVEL):.0f} points" in few(60)


def test_there_is_no_remark_on_enough_rows_or_on_a_difference_that_shows() -> None:
    assert few(enough()) is None and few(10_000) is None
    assert few(18, (0.2, 0.6)) is None and few(18, (-0.6, -0.2)) is None
    assert few(18, (-0.1, 0.6)) is not None and few(18, (0.0, 0.0)) is not None
