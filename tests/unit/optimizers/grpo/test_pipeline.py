"""Waves that are sampled while an earlier one is trained: which weights sample which wave, and what is left out."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from lmprog.errors import LmprogError
from lmprog.optimizers.grpo.beside import Beside, Ended
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.math.training_rows import Row
from lmprog.optimizers.grpo.pipeline import Pipeline
from lmprog.optimizers.grpo.row_source import SamplerState, StepRows
from lmprog.optimizers.grpo.sampler import Sampled
from tests.waiting import until_true

pytestmark = pytest.mark.torch


class FakePolicy:
    """Servers that have the weights of one step after the other."""

    def __init__(self, here: bool = False) -> None:
        lm = SimpleNamespace(id="lm", runs_here=here)
        self.start = SimpleNamespace(plan=SimpleNamespace(lms={"lm": lm}))
        self.program = "weights 0"

    @property
    def answering(self) -> frozenset[str]:
        return frozenset({self.program})

    async def show(self, step: int) -> None:
        self.program = f"weights {step}"


class FakeSampler:
    """A sampler whose rows say which weights sampled them; a wave takes as long as `long` says of its step."""

    def __init__(self, steps: int, staleness: int) -> None:
        self.config = Config(steps=steps, staleness=staleness)
        self.state = SamplerState()
        self.log: list[str] = []
        self.draws_ahead = True
        self.at_work = 0
        self.strange = ""
        self.long: dict[int, asyncio.Event] = {}
        self.made: list[int] = []

    async def sample(self, step: int, program: Any) -> Sampled:
        assert self.draws_ahead or self.at_work == 0
        self.at_work += 1
        self.log.append(f"{step} by {program}")
        self.state.taken = taken = self.state.taken + 4
        await self.long[step].wait() if step in self.long else await asyncio.sleep(0)
        self.at_work -= 1
        return Sampled((), taken)

    def rows_from(self, step: int, sampled: Sampled, program: Any) -> StepRows:
        self.made.append(step)
        row = Row((1,), (2,), 1.0, weights=program)
        others = [replace(row, weights=self.strange)] if self.strange else []
        return StepRows([row, *others], {"rows": 1 + len(others)})


def pipeline(steps: int, staleness: int) -> tuple[Pipeline, FakeSampler]:
    sampler = FakeSampler(steps, staleness)
    return Pipeline(sampler, FakePolicy()), sampler  # type: ignore[arg-type]


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("staleness", [1, 2, 3])
def test_the_wave_of_a_step_is_sampled_with_weights_that_are_as_many_steps_older(staleness: int, ahead: bool) -> None:
    source, sampler = pipeline(6, staleness)
    sampler.draws_ahead = ahead

    async def train() -> list[StepRows]:
        return [await source.rows(step) for step in range(6)]

    found = asyncio.run(train())
    assert sampler.log == [f"{step} by weights {max(0, step - staleness)}" for step in range(6)]
    assert [rows.health["age"] for rows in found] == [min(step, staleness) for step in range(6)]
    assert all(rows.health["stale"] == 0 for rows in found)


def test_waves_go_on_while_a_step_is_trained_and_no_further_than_they_may() -> None:
    source, sampler = pipeline(10, 2)

    async def train() -> None:
        await source.rows(0)
        await until_true(lambda: len(sampler.log) >= 3, "the second wave in advance")
        await asyncio.sleep(0.01)
        assert [line[0] for line in sampler.log] == ["0", "1", "2"]
        assert source.state.taken == 4  # the checkpoint of step 1 holds what was trained, and not what was sampled
        await source.rows(1)
        await until_true(lambda: len(sampler.log) >= 4, "the next wave")
        await asyncio.sleep(0.01)
        assert [line[0] for line in sampler.log] == ["0", "1", "2", "3"]
        assert source.state.taken == 8
        await source.close()

    asyncio.run(train())


@pytest.mark.parametrize("ahead", [True, False])
def test_the_longest_rollouts_of_a_wave_hold_up_the_sampling_of_no_other(ahead: bool) -> None:
    source, sampler = pipeline(10, 2)
    sampler.draws_ahead = ahead
    sampler.long[1] = asyncio.Event()

    async def train() -> None:
        await source.rows(0)
        second = asyncio.create_task(source.rows(1))
        await asyncio.sleep(0.01)
        assert [line[0] for line in sampler.log] == (["0", "1", "2", "3"] if ahead else ["0", "1"])
        # Their rows come in the order of the steps, and a checkpoint counts the examples until then.
        assert (sampler.made, source.state.taken) == ([0], 4)
        sampler.long[1].set()
        await second
        assert (sampler.made[:2], source.state.taken) == ([0, 1], 8)
        await source.rows(2)
        assert source.state.taken == 12
        await source.close()

    asyncio.run(train())


def test_rows_of_weights_that_are_too_old_or_unknown_are_left_out_and_counted() -> None:
    source, sampler = pipeline(3, 1)
    sampler.strange = "weights of nobody"
    found = asyncio.run(source.rows(0))
    assert [row.weights for row in found.rows] == ["weights 0"]
    assert (found.health["stale"], found.health["rows"], found.health["age"]) == (1, 1, 0.0)


def test_a_resumed_run_begins_its_waves_with_the_weights_of_its_step() -> None:
    source, sampler = pipeline(6, 2)
    source.state = SamplerState(taken=12)

    async def train() -> None:
        for step in range(3, 6):
            await source.rows(step)

    asyncio.run(train())
    assert sampler.log == ["3 by weights 3", "4 by weights 3", "5 by weights 3"]
    assert source.state.taken == 24


def test_a_wave_that_fails_ends_the_step_that_needs_it() -> None:
    source, sampler = pipeline(6, 1)
    inner = sampler.sample

    async def sample(step: int, program: Any) -> Sampled:
        if step == 1:
            raise LmprogError("no server")
        return await inner(step, program)

    sampler.sample = sample  # type: ignore[method-assign]

    async def train() -> None:
        await source.rows(0)
        with pytest.raises(LmprogError, match="no server"):
            await source.rows(1)
        await source.close()

    asyncio.run(train())


def test_a_model_in_this_process_is_refused() -> None:
    with pytest.raises(LmprogError, match="'lm' runs in this process; serve it"):
        Pipeline(FakeSampler(3, 1), FakePolicy(here=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [{"updates": 2}, {"teachers": [{"program": "./big.yaml"}]}])
def test_what_is_not_tested_beside_it_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not tested"):
        Config(staleness=1, **more)
    assert Config(**more).staleness == 0


def test_the_loop_goes_on_beside_the_work() -> None:
    beside, ticks = Beside(), list[int]()

    async def tick() -> int:
        ticks.append(len(ticks))
        return len(ticks)

    async def fails() -> None:
        raise LmprogError("no")

    def work() -> None:
        assert beside.at_work
        assert [beside.run(tick()) for _ in range(3)] == [1, 2, 3]
        with pytest.raises(LmprogError, match="no"):
            beside.run(fails())

    asyncio.run(beside.work(work))
    assert not beside.at_work
    with pytest.raises(ZeroDivisionError):
        asyncio.run(beside.work(lambda: print(1 / 0)))


def test_work_that_is_cancelled_ends_at_its_next_question() -> None:
    beside, ended = Beside(), list[str]()

    def work() -> None:
        try:
            beside.run(asyncio.sleep(60))
        except Ended:
            ended.append("while it waited")
        try:
            beside.run(asyncio.sleep(60))
        except Ended:
            ended.append("and again")
            raise

    async def cut() -> None:
        task = asyncio.create_task(beside.work(work))
        while beside._asked is None:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cut())
    assert ended == ["while it waited", "and again"]
