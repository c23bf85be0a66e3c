"""Resamples without numpy are those that numpy draws."""

from __future__ import annotations

from itertools import islice

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.scoring import resampling
from lmprog.scoring.statistics import estimate, gain_p, paired, ratio


@pytest.mark.parametrize("n", [1, 2, 3, 7, 200, 65_537, 3_000_000_000])
def test_the_draws_are_numpys(n: int) -> None:
    assert list(islice(resampling.integers(n), 1001)) == numpy.random.default_rng(0).integers(0, n, 1001).tolist()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.lists(st.floats(0, 1), max_size=4))
def test_percentiles_are_numpys(values: list[float], shares: list[float]) -> None:
    wanted = numpy.percentile(values, [100 * share for share in shares]) if shares else []
    assert resampling.percentiles(values, shares) == pytest.approx(list(wanted), rel=1e-9, abs=1e-6)


def test_figures_do_not_depend_on_numpy(monkeypatch) -> None:
    before = [0.1, 0.5, 0.25, 0.9, 0.3, 0.7, 0.2, 0.65, 0.15, 0.8, 0.4, 0.55, 0.35, 0.6, 0.05]
    after = [0.6, 0.45, 0.75, 0.8, 0.9, 0.72, 0.1, 0.95, 0.5, 0.85, 0.3, 0.75, 0.65, 0.2, 0.95]

    def figures() -> list[float]:
        found, change, part = estimate(before), paired(before, after), ratio(before, after)
        assert part is not None
        return [*found.ci95, *change.ci95, change.p, gain_p(before, after), *part.ci95]

    with_numpy = figures()
    monkeypatch.setattr(resampling, "_numpy", lambda: None)
    assert figures() == pytest.approx(with_numpy, abs=1e-12)
