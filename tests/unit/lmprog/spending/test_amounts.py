"""Amounts as text: what was spent, and what is left of each limit."""

from __future__ import annotations

import pytest

from lmprog.spending.amounts import spending
from lmprog.spending.budget import Spent


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "spent 350 calls, 41,200 tokens, $0.0213"),
        ({"lm_calls": 500}, "spent 350 calls, 41,200 tokens, $0.0213; left 150 calls"),
        (
            {"usd": 1, "tokens": 2e6, "minutes": 3},
            "spent 350 calls, 41,200 tokens, $0.0213; left $0.9787, 1,959k tokens, 2.0 minutes",
        ),
        ({"lm_calls": 340}, "spent 350 calls, 41,200 tokens, $0.0213; left 0 calls"),
    ],
)
def test_spending_and_what_is_left_of_each_limit(limits: dict, said: str) -> None:
    assert spending(Spent(350, 41_000, 200, 0.0213, 60.0), limits) == said
