"""Seeds follow from their place alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmprog.seeds import derive

PARTS = st.lists(st.integers() | st.text() | st.sampled_from(["1\x1f2", "'1'"]), max_size=4)


@given(PARTS, PARTS)
def test_equal_places_have_equal_seeds_and_others_do_not(one: list, other: list) -> None:
    assert (derive(*one) == derive(*other)) == (one == other)
    assert 0 <= derive(*one) < 2**63


def test_seeds_stay_what_they_are() -> None:
    assert derive(0, "classify", 3) == 2762803334182262767
    assert derive(0, "1") != derive(0, 1)
    assert derive("a", "b") != derive("ab")
