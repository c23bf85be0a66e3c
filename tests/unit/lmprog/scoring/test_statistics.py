"""Intervals and paired comparisons: exact values, and what must hold for any scores."""

from __future__ import annotations

import math
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmprog.scoring.statistics import Difference, Estimate, estimate, paired

SCORES = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=30)
HITS = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60)
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)
HIT_PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=40)


@given(SCORES | HITS)
@example([0.1] * 7)
@example([0.7] * 7)
@example([0.0])
@example([1.0] * 7)
@settings(max_examples=60)
def test_the_interval_holds_the_mean(scores: list[float]) -> None:
    found = estimate(scores)
    assert found.mean == math.fsum(scores) / len(scores)
    assert found.ci95[0] <= found.mean <= found.ci95[1]
    assert found.n == len(scores)
    assert found.ci95[0] >= 0
    assert found.ci95[1] <= 1


@given(PAIRS | HIT_PAIRS)
@example([(0.1, 0.4)] * 3)
@example([(0.0, 0.5)])
@settings(max_examples=60)
def test_a_comparison_is_symmetric(pairs: list[tuple[float, float]]) -> None:
    before, after = zip(*pairs, strict=True)
    there, back = paired(before, after), paired(after, before)
    assert there.mean == -back.mean
    assert there.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]), abs=1e-12)
    assert there.p == pytest.approx(back.p, abs=1e-9)
    assert there.ci95[0] <= there.mean <= there.ci95[1]
    assert 0 <= there.p <= 1


def test_wilsons_interval_of_hits() -> None:
    found = estimate([1.0] * 8 + [0.0] * 2)
    assert found.mean == 0.8
    assert found.ci95 == pytest.approx((0.490162, 0.943318), abs=1e-6)


def test_the_bootstrap_of_other_scores() -> None:
    scores = [0.25, 0.5, 0.75, 1.0] * 25
    found = estimate(scores)
    assert found.mean == 0.625
    half = 1.96 * 0.2795 / 10
    assert found.ci95 == pytest.approx((0.625 - half, 0.625 + half), abs=0.01)


def test_equal_scores_give_equal_intervals() -> None:
    scores = [0.1, 0.7, 0.35, 0.2]
    assert estimate(scores) == estimate(list(scores))


def test_mcnemar_where_all_scores_are_hits() -> None:
    found = paired([0.0] * 9 + [1.0] * 11, [1.0] * 8 + [0.0] + [1.0] * 10 + [0.0])
    assert found.mean == pytest.approx(7 / 20)
    assert found.p == pytest.approx(2 * (1 + 9) / 2**9)
    assert found.significant_gain


def test_the_sign_flip_test_of_other_scores() -> None:
    found = paired([0.1, 0.2, 0.3, 0.4], [0.2, 0.4, 0.6, 0.8])
    assert found.p == pytest.approx(2 / 2**4)
    assert found.mean == pytest.approx(0.25)


def test_no_difference() -> None:
    found = paired([0.5, 1.0], [0.5, 1.0])
    assert (found.mean, found.ci95, found.p, found.significant_gain) == (0.0, (0.0, 0.0), 1.0, False)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="not 1 and 2"):
        paired([0.5], [0.5, 1.0])
    with pytest.raises(ValueError, match="not 0 and 0"):
        paired([], [])
    with pytest.raises(ValueError, match="no row was scored"):
        estimate([])


def test_words_and_json() -> None:
    assert str(Estimate(0.625, (0.5, 0.75), 8)) == "62.5% [50.0, 75.0]"
    difference = Difference(0.4, (0.3, 0.5), 80, 0.00012)
    assert str(difference) == "+40.0 points [+30.0, +50.0], p = 0.00012"
    assert difference.as_json() == {"mean": 0.4, "ci95": [0.3, 0.5], "p": 0.00012}


def test_many_rows_take_little_memory() -> None:
    tracemalloc.start()
    estimate([index / 5000 for index in range(5000)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize(
    ("better", "worse", "n", "interval"),
    [
        # z * z / (n + z * z) to both sides where nothing has changed; (1 - d) / (1 + d) = z * z / n at the low end of n of n.
        (0, 0, 10, (-0.277533, 0.277533)),
        (10, 0, 10, (0.444934, 1.0)),
        (0, 10, 10, (-1.0, -0.444934)),
    ],
)
def test_tangos_interval(better: int, worse: int, n: int, interval: tuple[float, float]) -> None:
    before = [0.0] * better + [1.0] * (n - better)
    after = [1.0] * better + [0.0] * worse + [1.0] * (n - better - worse)
    found = paired(before, after)
    assert found.ci95 == pytest.approx(interval, abs=1e-5)
    assert (found.better, found.worse, found.n) == (better, worse, n)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_tangos_interval_leaves_out_zero_where_the_score_test_does(better: int, worse: int, equal: int) -> None:
    n = better + worse + equal
    if n == 0 or better == worse:
        return
    before = [0.0] * better + [1.0] * worse + [1.0] * equal
    found = paired(before, [1.0] * better + [0.0] * worse + [1.0] * equal)
    beyond = abs(better - worse) / math.sqrt(better + worse) > 1.959964
    assert (found.ci95[0] > 0 or found.ci95[1] < 0) is beyond


@pytest.mark.slow
def test_percentiles_are_taken_further_out_for_few_rows() -> None:
    import numpy
    from scipy.stats import bootstrap

    for n, wider in ((5, 1.3), (1000, 1.0)):
        scores = numpy.random.default_rng(0).random(n)
        low, high = estimate(list(scores)).ci95
        plain = bootstrap(
            (scores,), numpy.mean, method="percentile", rng=numpy.random.default_rng(1)
        ).confidence_interval
        assert (high - low) / (plain.high - plain.low) == pytest.approx(wider, rel=0.15 if n == 5 else 0.04)


@pytest.mark.parametrize(
    ("value", "n", "low", "high"), [(0.8, 6, 0.433, 0.892), (0.3, 1, 0.008, 0.983), (60.0, 2, 9.5, 60.0)]
)
def test_equal_scores_of_few_rows_say_little_of_others(value: float, n: int, low: float, high: float) -> None:
    assert estimate([value] * n).ci95 == pytest.approx((low, high), abs=0.06 if value > 1 else 0.001)


@given(st.floats(0, 1), st.integers(1, 300))
def test_more_equal_scores_say_more(value: float, n: int) -> None:
    fewer, more = (estimate([value] * count).ci95 for count in (n, n + 1))
    assert fewer[0] <= more[0] + 1e-9 and more[1] <= fewer[1] + 1e-9
    assert -1e-9 <= fewer[0] <= value + 1e-9 and value - 1e-9 <= fewer[1] <= 1 + 1e-9
