"""Replies that `max_tokens` cuts: counted by module, advised on, and made to cost."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from lmprog.optimizers.grpo.math.overlong import advice, cut_shares, is_cut, penalised
from lmprog.optimizers.grpo.sampling.rollouts import Rollout


@dataclass(frozen=True)
class Call:
    module: str
    token_ids: tuple[int, ...]
    finish_reason: str = "stop"
    parent: str | None = None


def reply(module: str, tokens: int, cut: bool = False, parent: str | None = None) -> Call:
    return Call(module, (1,) * tokens, "length" if cut else "stop", parent)


def run(*calls: Call, reward: float = 1.0, rewards: dict[str, float] | None = None) -> Rollout:
    return Rollout(0, 0, reward, calls, rewards=rewards or {})  # type: ignore[arg-type]


def test_shares_are_by_module_and_of_those_that_are_trained() -> None:
    runs = [run(reply("a", 2, True), reply("b", 2), reply("a", 9, True, parent="judge")), run(reply("a", 1))]
    shares = cut_shares(runs, ["a", "b", "never"])
    assert shares == {"a": 0.5, "b": 0.0}
    plan = SimpleNamespace(modules={id: SimpleNamespace(lm="student") for id in "ab"})
    (text,) = advice(shares, plan)  # type: ignore[arg-type]
    assert "'a'" in text and "lms.student.params.max_tokens" in text and "overlong" in text
    assert advice({"a": 0.25}, plan) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "cut", "limit", "reward"),
    [
        (80, False, 100, 1.0),
        (90, False, 100, 0.0),
        (100, True, 100, -1.0),
        (500, False, None, 1.0),
        (5, True, None, -1.0),
    ],
)
def test_length_costs_from_four_fifths_of_the_limit_on(
    tokens: int, cut: bool, limit: int | None, reward: float
) -> None:
    called = run(reply("a", tokens, cut), reply("other", 99, True))
    (found,) = penalised([called], ["a"], lambda module: limit, lambda module: 2.0)
    assert found.reward == pytest.approx(reward)


def test_modules_with_rewards_of_their_own_pay_each_for_its_own_replies() -> None:
    called = run(reply("a", 10, True), reply("b", 1), reward=0.5, rewards={"a": 1.0, "b": 0.0})
    (found,) = penalised([called], ["a", "b"], lambda module: 10)
    assert found.rewards == {"a": 0.0, "b": 0.0} and found.reward == 0.0


def test_a_reply_of_unknown_end_is_not_cut() -> None:
    assert not is_cut(SimpleNamespace()) and is_cut(reply("a", 1, True))
