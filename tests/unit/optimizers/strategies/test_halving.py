"""Halving against the plain account of it: each rung's runs, one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmprog.optimizers.run_counts import halving_runs, number
from lmprog.optimizers.strategies.halving import Halving


@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 10), st.integers(0, 40))
def test_rungs_end_at_all_rows_and_the_count_of_runs_is_that_of_running_them(rows, first, last, candidates) -> None:
    halving = Halving(rows, first, last)
    rungs = halving.rungs()
    assert rungs[-1] == rows and rungs == sorted(set(rungs))
    scored = [rungs[0]] * candidates
    left = candidates
    for upto, count in halving.survivors(candidates):
        assert min(last, candidates) <= count <= left
        left = count
        scored[:count] = [upto] * count
    assert halving_runs(rows, first, last, candidates) == sum(scored)
    assert candidates < last or scored.count(rows) >= min(last, candidates)


def test_an_option_that_is_no_number_counts_as_left_out() -> None:
    for value in (True, "4", 4.0, None, -1):
        assert number({"trials": value}, "trials", 24) == 24, value
    assert number({"trials": 4}, "trials", 24) == 4
