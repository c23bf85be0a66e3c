"""The binomial distribution, Student's t and the incomplete beta function, beside scipy's, which takes a second to import."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.scoring.distributions import beta_share, binomial_above, binomial_pmf, t_quantile

pytestmark = pytest.mark.slow
SHARES = st.just(0.0) | st.floats(1e-100, 1)
"""scipy fails itself at shares beside 0."""


@given(st.integers(0, 3000), st.integers(-1, 3001), SHARES)
def test_the_binomial_distribution(trials: int, hits: int, share: float) -> None:
    from scipy import stats

    assert binomial_pmf(hits, trials, share) == pytest.approx(stats.binom.pmf(hits, trials, share), rel=1e-8, abs=1e-12)
    assert binomial_above(hits, trials, share) == pytest.approx(
        stats.binom.sf(hits, trials, share), rel=1e-8, abs=1e-12
    )


@given(st.floats(0.1, 1e5), st.floats(0.1, 1e5), SHARES)
def test_the_incomplete_beta_function(a: float, b: float, x: float) -> None:
    from scipy import special

    assert beta_share(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-7, abs=1e-10)


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 30, 99, 1000, 100_000])
def test_quantiles_of_t(freedom: int) -> None:
    from scipy import stats

    for level in (0.001, 0.025, 0.2, 0.49):
        assert t_quantile(level, freedom) == pytest.approx(stats.t.ppf(level, freedom), rel=1e-6)
