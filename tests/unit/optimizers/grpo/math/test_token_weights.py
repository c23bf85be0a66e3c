"""How much each token counts in the loss: plain sums over the formulas, and rows from groups."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.optimizers.grpo.advantages import advantages
from lmprog.optimizers.grpo.groups import form_groups
from lmprog.optimizers.grpo.math.training_rows import Row, token_weights, training_rows

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def rows_of(lengths: list[int], modules: str = "a", runs: int | None = None) -> list[Row]:
    return [
        Row([1], [2] * length, 1.0, modules[place % len(modules)], None if runs is None else place % runs)
        for place, length in enumerate(lengths)
    ]


@given(LENGTHS, st.sampled_from(["dapo", "bnpo", "cispo"]))
def test_the_mean_over_tokens(lengths: list[int], loss: str) -> None:
    assert token_weights(rows_of(lengths), loss) == pytest.approx([1 / sum(lengths)] * len(lengths))


@given(LENGTHS)
def test_the_mean_over_replies_and_the_sum_over_a_constant(lengths: list[int]) -> None:
    found = token_weights(rows_of(lengths), "grpo")
    assert found == pytest.approx([1 / (len(lengths) * length) for length in lengths])
    assert token_weights(rows_of(lengths), "dr_grpo", reply_limit=50) == pytest.approx(
        [1 / (50 * len(lengths))] * len(lengths)
    )


@given(LENGTHS, st.integers(1, 3), st.sampled_from(["dapo", "bnpo", "grpo", "cispo"]))
def test_a_run_is_normalised_by_its_tokens(lengths: list[int], runs: int, loss: str) -> None:
    rows = rows_of(lengths, runs=runs)
    for row, weight in zip(rows, token_weights(rows, loss), strict=True):
        of_run = sum(len(other.reply_ids) for other in rows if other.run == row.run)
        assert weight == pytest.approx(1 / (min(runs, len(rows)) * of_run))


@given(LENGTHS, st.sampled_from(["dapo", "grpo", "dr_grpo"]))
def test_modules_may_have_equal_shares_whatever_their_lengths(lengths: list[int], loss: str) -> None:
    rows = rows_of(lengths, "aab")
    plain = token_weights(rows, loss, reply_limit=9)
    found = token_weights(rows, loss, reply_limit=9, weighting="modules")
    shares = {
        module: sum(w * len(row.reply_ids) for row, w in zip(rows, found, strict=True) if row.module == module)
        for module in {row.module for row in rows}
    }
    whole = sum(weight * length for weight, length in zip(plain, lengths, strict=True))
    assert sum(shares.values()) == pytest.approx(whole)
    assert max(shares.values()) == pytest.approx(min(shares.values()))


def test_no_rows_have_no_weights() -> None:
    for loss in ("dapo", "grpo", "dr_grpo"):
        assert token_weights([], loss, weighting="modules") == []


@dataclass(frozen=True)
class Call:
    module: str
    call: int
    prompt_token_ids: tuple[int, ...] = (7, 8)
    token_ids: tuple[int, ...] = (9,)


@dataclass(frozen=True)
class Run:
    example: int
    rollout: int
    reward: float
    invocations: tuple[Call, ...]


def test_rows_are_those_of_groups_that_teach_and_each_stands_once() -> None:
    rewards = {0: (0.0, 0.5, 1.0), 1: (1.0, 1.0, 1.0)}
    runs = [
        Run(example, place, reward, (Call("a", 0), Call("a", 1), Call("b", 0)))
        for example, found in rewards.items()
        for place, reward in enumerate(found)
    ]
    groups = form_groups(runs)
    rows = training_rows(groups, advantages(groups, rollouts=runs))
    # Of the middle run nothing moves; it counts in the size of the loss, as in any group with a signal.
    assert sorted((row.module, row.advantage > 0, row.advantage == 0) for row in rows) == sorted(
        (module, reward > 0.5, reward == 0.5) for module in "aab" for reward in rewards[0]
    )
    assert {row.run for row in rows} == {None}
    whole = form_groups(runs, level="trajectory")
    assert {row.run for row in training_rows(whole, advantages(whole, rollouts=runs))} == {(0, 0), (0, 1), (0, 2)}


@given(st.floats(0, 1), st.integers(2, 9), st.sampled_from(["group", "rollout", "leave_one_out"]))
def test_rounding_makes_no_advantage_of_equal_rewards(reward: float, count: int, baseline: str) -> None:
    groups = form_groups([Run(0, place, reward, (Call("a", 0),)) for place in range(count)])
    assert training_rows(groups, advantages(groups, baseline=baseline)) == []
