"""What the journal and the trackers of experiments are told of a step: rewards, signal, modules, and where its seconds went."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from lmprog.optimizers.grpo.advantages import advantages
from lmprog.optimizers.grpo.groups import form_groups
from lmprog.optimizers.grpo.math.health import flat, health
from lmprog.optimizers.grpo.math.training_rows import training_rows
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Wave
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from tests.standing_in import standing_in


def made(module: str, tokens: int, call: int = 0) -> SimpleNamespace:
    return SimpleNamespace(module=module, call=call, prompt_token_ids=(1, 2), token_ids=(3,) * tokens)


@pytest.mark.parametrize("level", ["module", "trajectory"])
def test_health_tells_of_each_module_and_of_the_signal(level: str) -> None:
    waves = [
        Wave(
            (
                Rollout(0, 0, 1.0, (made("plan", 2), made("add", 1))),
                Rollout(0, 1, 0.0, (made("plan", 4),), "unreadable"),
            ),
            1,
        ),
        Wave((Rollout(5, 0, 0.5, (made("plan", 2),)), Rollout(5, 1, 0.5, (made("plan", 2),))), 0),
    ]
    groups = form_groups([rollout for wave in waves for rollout in wave.rollouts], level=level, min_group=1)
    values = advantages(groups, scale="none")
    found = health(waves, groups, values, training_rows(groups, values))
    assert (found["reward"], found["unreadable"], found["lost"], found["waves"]) == (0.5, 1, 1, 2)
    assert (found["examples"], found["without_signal"]) == (2, 1)
    # At module level the one call of `add` is a group of its own, in which nothing differs.
    assert (found["groups"], found["groups_without_signal"]) == ((3, 2) if level == "module" else (2, 1))
    plan = found["modules"]["plan"]
    assert plan == {"calls": 4, "reward": 0.5, "advantage": 0.0, "advantage_size": 0.25, "reply_tokens": 2.5}
    assert found["modules"]["add"]["reward"] == 1.0
    assert dict(flat({"a": 1, "b": {"c": {"d": 2}}})) == {"a": 1.0, "b/c/d": 2.0}


def test_a_step_without_a_call_of_a_tuned_module_has_its_figures() -> None:
    assert health([Wave((), 3)], [], [], [])["modules"] == {}


def test_the_parts_of_a_step_add_up_to_it_and_inner_ones_are_their_own(monkeypatch) -> None:
    now = 100.0

    def later(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("lmprog.optimizers.grpo.stopwatch.time", standing_in(time, perf_counter=lambda: now))
    watch = Stopwatch()
    watch.start("update")
    with watch.part("rollout"):
        later(0.02)
        first, second = watch.part("score"), watch.part("score")
        first.__enter__()
        second.__enter__()  # at the same time: counted once
        first.__exit__(None, None, None)
        later(0.03)
        second.__exit__(None, None, None)
    later(0.01)
    found = watch.stop()
    assert list(found) == ["update", "rollout", "score"]
    assert found == pytest.approx({"update": 0.01, "rollout": 0.02, "score": 0.03})
    watch.start("update")
    assert list(watch.stop()) == ["update"]
