"""The probe before training: its figures, the temperature that it takes, what it says, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.sampling.probe import ENOUGH, measure, most_runs, said
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Wave, unit


def wave(rewards: list[list[float]], cut: bool = False) -> Wave:
    reply = SimpleNamespace(parent=None, token_ids=(1,), finish_reason="length" if cut else "stop")
    return Wave(
        tuple(
            Rollout(example, place, reward, (reply,))  # type: ignore[arg-type]
            for example, of_row in enumerate(rewards)
            for place, reward in enumerate(of_row)
        ),
        0,
    )


def measured(
    config: Config, by_temperature: dict[Any, list[list[float]]]
) -> tuple[dict[str, Any], list[tuple[Any, int]]]:
    """What a probe finds where runs at a temperature get the rewards of `by_temperature`, and what it has run."""
    ran: list[tuple[Any, int]] = []

    async def runs(temperature: Any, count: int) -> Wave:
        ran.append((temperature, count))
        return wave(by_temperature[str(temperature)], cut=temperature != 0)

    return asyncio.run(measure(runs, config, 1.0, unit)), ran


GREEDY = [[0.0], [0.0], [1.0], [0.0], [0.0]]
NONE = [[0.0, 0.0]] * 5
WORSE = [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
ONE = [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("by_temperature", "tried", "taken"),
    [
        ({"1.0": ONE}, [1.0], 1.0),  # a fifth of the rows is enough, and nothing below is tried
        ({"1.0": WORSE, "0.8": ONE}, [1.0, 0.8], 0.8),
        ({"1.0": NONE, "0.8": NONE, "0.6": NONE, "0.4": ONE}, [1.0, 0.8, 0.6, 0.4], 0.4),
        ({"1.0": NONE, "0.8": NONE, "0.6": NONE, "0.4": NONE}, [1.0, 0.8, 0.6, 0.4], 1.0),
    ],
)
def test_auto_takes_the_highest_temperature_with_enough_to_learn(by_temperature, tried, taken) -> None:
    config = Config(rollouts=2)
    found, ran = measured(config, {"0.0": GREEDY, **by_temperature})
    assert ran == [(0.0, 1), *((temperature, 2) for temperature in tried)]
    assert found["temperature"] == taken
    assert sum(len(GREEDY) * count for _, count in ran) <= most_runs(config, 5)


def test_figures() -> None:
    found, _ = measured(Config(rollouts=2), {"0.0": GREEDY, "1.0": ONE})
    assert (found["rows"], found["rollouts"], found["greedy"], found["solved"]) == (5, 2, 0.2, False)
    (figures,) = found["tried"]
    assert figures == {
        "temperature": 1.0, "mean": 0.2, "best": 0.4, "with_signal": 0.4, "above_greedy": ENOUGH, "cut": 1.0
    }  # fmt: skip
    assert found["levels"] == {"": [0.0, 1.0]}
    (text,) = said(found)
    assert text == (
        "5 train rows before the first step: 0.20 greedy; at temperature 1 0.20 in the mean and 0.40 by the best of 2; "
        "40% of the rows have a signal, on 20% a sample is better than greedy; "
        "max_tokens cuts 100% of the replies"
    )


@pytest.mark.parametrize("temperature", [0.7, {"write": 0.3}])
def test_a_temperature_that_is_given_is_measured_and_kept(temperature: Any) -> None:
    config = Config(rollouts=2, temperature=temperature)
    found, ran = measured(config, {"0.0": GREEDY, str(temperature): WORSE})
    assert ran == [(0.0, 1), (temperature, 2)]
    assert found["temperature"] == temperature
    assert most_runs(config, 5) == 15


def test_it_says_when_there_is_nothing_to_learn_from_and_what_would_help() -> None:
    nothing: Callable[[list[list[float]]], dict[str, list[list[float]]]]
    nothing = lambda rewards: dict.fromkeys(("1.0", "0.8", "0.6", "0.4"), rewards)  # noqa: E731
    found, _ = measured(Config(rollouts=2), {"0.0": GREEDY, **nothing(NONE)})
    assert "nothing to learn" in said(found)[1] and "`teachers` that get them right" in said(found)[1]
    assert "comes from the teachers" in said(found, taught=True)[1]
    solved, _ = measured(Config(rollouts=2), {"0.0": [[1.0]] * 5, **nothing([[1.0, 1.0]] * 5)})
    assert "solved already" in said(solved)[1]
    few = [*ONE, *[[0.0, 0.0]] * 5]
    found, _ = measured(Config(rollouts=2), {"0.0": [*GREEDY, *[[0.0]] * 5], **nothing(few)})
    assert "little to learn" in said(found)[1] and found["temperature"] == 1.0


def test_the_most_runs() -> None:
    assert most_runs(Config(rollouts=8), 100) == 16 * (1 + 4 * 8)
    assert most_runs(Config(rollouts=8, temperature=1.0), 5) == 5 * 9
    assert most_runs(Config(probe=0), 100) == most_runs(Config(), 0) == 0


@pytest.mark.slow
@pytest.mark.torch
def test_the_stage_probes_once_takes_the_temperature_and_goes_on(research, tmp_path) -> None:
    pytest.importorskip("trl", reason="needs the extra 'local'")
    from lmprog.optimizers.grpo.stage import grpo_stage

    task = research(tmp_path)
    config = Config(steps=1, examples=2, rollouts=3, credit=0, probe=2)
    stage = grpo_stage(task, config)
    stage.run()
    (event,) = (event for event in task.journal.events if event["event"] == "probe")
    assert event["rows"] == 2 and stage.source.config.temperature == event["temperature"]
    assert stage.source.state.levels[""][: len(event["levels"][""])] == event["levels"][""]
    spent = task.budget.spent.lm_calls
    again = grpo_stage(task, config)
    again.run()
    assert again.source.config.temperature == event["temperature"] and task.budget.spent.lm_calls <= 2 * spent
    assert sum(event["event"] == "probe" for event in task.journal.events) == 1
