"""What is compared in a step: the automatic scale, rewards by module, and the turns of agents as one member."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.optimizers.grpo.advantages import EQUAL, MIN_DEVIATION, advantages, has_signal
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.groups import form_groups
from lmprog.optimizers.grpo.math.comparisons import automatic_scale, compare, seen
from lmprog.optimizers.grpo.math.training_rows import Row, loss_weights, token_weights, training_rows
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Wave


@dataclass(frozen=True)
class Call:
    module: str
    call: int
    path: str = "step"
    attempt: int = 0
    token_ids: tuple[int, ...] = (9,)
    prompt_token_ids: tuple[int, ...] = (7, 8)
    parent: str | None = None


def runs_of(rewards: list[float]) -> list[Rollout]:
    return [Rollout(0, place, reward, (Call("a", 0),)) for place, reward in enumerate(rewards)]  # type: ignore[arg-type]


def test_rounding_is_no_signal() -> None:
    rewards = [(0.1 + 1 - 0.3) / 2, (0.2 + 1 - 0.4) / 2, 0.4]
    assert len(set(rewards)) > 1  # they differ by 1e-16
    runs = runs_of(rewards)
    groups = form_groups(runs)
    for baseline in ("group", "rollout", "leave_one_out"):
        assert advantages(groups, baseline=baseline, rollouts=runs) == [[0.0] * 3]
    assert not has_signal(groups[0])
    assert Wave(tuple(runs), 0).by_signal() == ([], [0])


def test_rewards_that_hardly_differ_are_not_blown_up() -> None:
    groups = form_groups(runs_of([0.5, 0.5003, 0.5005, 0.5009, 0.5011, 0.5013]))
    (values,) = advantages(groups)
    assert 0.4 < max(map(abs, values)) < 0.7  # 1.46 by their own deviation
    assert has_signal(groups[0])


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=8), st.floats(0.01, 100))
def test_signal_and_floors_are_relative_to_the_range(rewards: list[float], width: float) -> None:
    group = form_groups(runs_of([width * reward for reward in rewards]))
    (values,) = advantages(group, width=width)
    spread = max(rewards) - min(rewards)
    if abs(spread - EQUAL) > 1e-9:
        assert has_signal(group[0], width) == (spread > EQUAL)
    if not any(values):
        assert spread <= 2 * EQUAL * len(rewards)
    assert max(map(abs, values)) <= spread / MIN_DEVIATION * (1 + 1e-9)
    mean = math.fsum(rewards) / len(rewards)
    deviation = math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / len(rewards))
    if deviation > 2 * MIN_DEVIATION:
        expected = [(reward - mean) / deviation for reward in rewards]
        assert values == pytest.approx(expected, abs=2 * EQUAL / deviation + 1e-6)


def test_the_scale_is_that_of_the_values_a_reward_has_taken() -> None:
    two = seen({}, runs_of([0.0, 1.0, 1.0 - 1e-9, 0.0]))
    assert two == {"": [0.0, 1.0]} and automatic_scale(two[""]) == "group"
    graded = seen(two, runs_of([0.5]))
    assert automatic_scale(graded[""]) == "none"
    assert automatic_scale(seen(graded, runs_of([0.0, 1.0]))[""]) == "none"  # it stays so
    runs = runs_of([0.0, 0.0, 0.0, 1.0])
    scaled, plain = (compare(runs, Config.model_validate({}), levels=levels)[1][0] for levels in (two, graded))
    assert plain == [-0.25, -0.25, -0.25, 0.75]
    assert scaled == pytest.approx([value / math.sqrt(3 / 16) for value in plain])
    assert compare(runs, Config(scale="none"), levels=two)[1][0] == plain


def test_each_module_is_compared_by_its_own_reward() -> None:
    calls = (Call("a", 0), Call("b", 0), Call("c", 0))
    rewards = [({"a": 0.0, "b": 5.0, "c": 1.0}), ({"a": 1.0, "b": 5.0 + 1e-7, "c": 1.0})]
    runs = [
        Rollout(0, place, sum(found.values()) / 3, calls, rewards=found)  # type: ignore[arg-type]
        for place, found in enumerate(rewards)
    ]
    groups, values = compare(runs, Config(scale="none"), width=lambda module: 10.0 if module == "b" else 1.0)
    by_module = dict(zip((group.module for group in groups), values, strict=True))
    assert by_module == {"a": [-0.5, 0.5], "b": [0.0, 0.0], "c": [0.0, 0.0]}
    assert Wave(tuple(runs), 0).by_signal() == ([0], [])
    same = [Rollout(0, place, place, calls, rewards={"a": 1.0, "b": 2.0, "c": 0.0}) for place in range(2)]  # type: ignore[arg-type]
    assert Wave(tuple(same), 0).by_signal() == ([], [0])


def agent(path: str, turns: int, first: int, attempt: int = 0, tokens: int = 1) -> tuple[Call, ...]:
    return tuple(Call("act", first + turn, path, attempt, (9,) * tokens) for turn in range(turns))


def test_an_agents_turns_are_one_member() -> None:
    long = (*agent("look[0].act", 4, 0), Call("say", 0), *agent("look[1].act", 2, 4))
    short = (*agent("look[0].act", 1, 0), Call("say", 0), *agent("look[1].act", 3, 1))
    runs = [Rollout(0, 0, 1.0, long), Rollout(0, 1, 0.0, short)]  # type: ignore[arg-type]
    groups, values = compare(runs, Config(scale="none"), agents={"act"})
    found = {(group.module, group.call): [len(member.invocations) for member in group.members] for group in groups}
    assert found == {("act", 0): [4, 1], ("act", 1): [2, 3], ("say", 0): [1, 1]}
    assert values == [[0.5, -0.5]] * 3
    rows = training_rows(groups, values, agents={"act"})
    assert len(rows) == 12 and len({row.run for row in rows if row.module == "act"}) == 4
    for weighting in ("modules", "tokens"):
        weights = token_weights(rows, weighting=weighting)
        of_members: dict[object, float] = {}
        for row, weight in zip(rows, weights, strict=True):
            of_members[row.run] = of_members.get(row.run, 0.0) + weight * len(row.reply_ids)
        words = of_members.pop(None)
        assert words == pytest.approx(0.5 if weighting == "modules" else 2 / 12)
        # A run of four turns weighs as much as one of one.
        assert list(of_members.values()) == pytest.approx([(1 - words) / 4] * 4)


def test_of_an_agent_that_was_tried_again_the_last_try_counts() -> None:
    tried = (*agent("act", 3, 0), *agent("act", 1, 0, attempt=1))
    (group,), _ = compare([Rollout(0, 0, 1.0, tried)], Config(), agents={"act"})  # type: ignore[arg-type]
    assert [made.attempt for made in group.members[0].invocations] == [1]


LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.sampled_from("ab")), min_size=1, max_size=8)


@given(LENGTHS, st.sampled_from(["dapo", "grpo", "dr_grpo"]), st.sampled_from(["tokens", "modules"]))
def test_the_kl_term_is_a_mean_over_all_rows_and_the_loss_over_those_that_are_asked_for(drawn, loss, weighting) -> None:
    rows = [Row([1], [2] * length, 1.0, module, signal=signal) for length, signal, module in drawn]
    how = {"loss": loss, "reply_limit": 9, "weighting": weighting}
    every = token_weights(rows, **how)
    kept = iter(token_weights([row for row in rows if row.signal], **how))
    expected = [(next(kept) if row.signal else 0.0, weight) for row, weight in zip(rows, every, strict=True)]
    assert loss_weights(rows, **how) == expected
    assert loss_weights(rows, **how, normalise="all") == [(weight, weight) for weight in every]


def test_a_long_module_does_not_drown_a_short_one() -> None:
    rows = [Row([1], [2] * 200, 1.0, "long"), Row([1], [2] * 10, 1.0, "short")]
    tokens = [w * len(row.reply_ids) for row, w in zip(rows, token_weights(rows), strict=True)]
    assert tokens == pytest.approx([200 / 210, 10 / 210])
    weighting = Config.model_validate({}).weighting
    modules = [w * len(row.reply_ids) for row, w in zip(rows, token_weights(rows, weighting=weighting), strict=True)]
    assert modules == pytest.approx([0.5, 0.5])


def test_rows_without_signal_and_rows_left_out() -> None:
    runs = [
        Rollout(example, place, reward, (Call("a", 0, token_ids=(9,) * (1 + place)),))  # type: ignore[arg-type]
        for example, rewards in enumerate(([0.0, 1.0], [1.0, 1.0]))
        for place, reward in enumerate(rewards)
    ]
    groups, values = compare(runs, Config())
    assert [(row.advantage, row.signal) for row in training_rows(groups, values)] == [(-1.0, True), (1.0, True)]
    every = training_rows(groups, values, silent=True)
    assert [(row.advantage, row.signal) for row in every[2:]] == [(0.0, False)] * 2
    masked = training_rows(groups, values, is_skipped=lambda made: len(made.token_ids) > 1)
    assert [row.advantage for row in masked] == [-1.0]  # the baseline stays that of both
