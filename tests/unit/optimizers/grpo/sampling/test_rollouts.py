"""Which examples a step takes, and what a wave says of its signal."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Wave, examples_at


@given(st.integers(0, 200), st.integers(1, 40), st.integers(1, 30), st.integers(0, 5))
def test_examples_are_one_endless_stream_of_shuffled_epochs(first: int, count: int, rows: int, seed: int) -> None:
    taken = examples_at(first, count, rows, seed)
    assert taken == examples_at(0, first + count, rows, seed)[first:]
    epochs = examples_at(0, 3 * rows, rows, seed)
    assert Counter(epochs) == {row: 3 for row in range(rows)}
    assert sorted(epochs[:rows]) == list(range(rows))


def test_seeds_give_other_orders() -> None:
    assert examples_at(0, 30, 30, 0) != examples_at(0, 30, 30, 1)
    assert examples_at(0, 30, 30, 0) != examples_at(30, 30, 30, 0)


def test_an_example_has_a_signal_where_its_rewards_differ() -> None:
    rewards = {0: [1.0, 1.0], 1: [0.0, 1.0], 2: [0.0, 0.0], 3: [0.5, 0.0]}
    rollouts = tuple(Rollout(e, n, reward, ()) for e, found in rewards.items() for n, reward in enumerate(found))
    assert Wave(rollouts, lost=0).by_signal() == ([1, 3], [0, 2])
