"""Candidates that are scored at the same time: the result follows from `at_once`, and not from which run ends first."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from lmprog.optimizers.bootstrap import Bootstrap
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.prompt_search import PromptSearch
from lmprog.runtime.result import Result
from lmprog.runtime.runner import HERE, Job, Runnable

pytestmark = pytest.mark.slow

TUNED = "  tune: {judge: [instructions, demos]}\n"
WORDS = (TUNED, f"{TUNED}  instructions:\n    judge:\n      - Guess.\n      - Divide by two.\n      - Look.\n")
STAGES: dict[str, Any] = {
    "bootstrap": lambda at_once: Bootstrap(Bootstrap.Config(sets=7, demos=3, rows=8, at_once=at_once)),
    "prompt_search": lambda at_once: PromptSearch(
        PromptSearch.Config(trials=9, demos=[1, 2], demo_sets=3, bootstrap_rows=4, minibatch=4, at_once=at_once)
    ),
}


class Shuffled:
    """A runner of some workers, whose runs end in an order of its own."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._draw = random.Random(workers)
        self.active = self.most_active = 0

    async def run(self, program: Runnable, job: Job) -> Result:
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        for _ in range(self._draw.randrange(9)):
            await asyncio.sleep(0)
        self.active -= 1
        return await HERE.run(program, job)


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("stage", sorted(STAGES))
def test_the_number_of_workers_changes_nothing(stage: str, at_once: int, parity, task_of, tmp_path) -> None:
    found = []
    for workers in (1, 5):
        program, script = parity(WORDS)
        runner = Shuffled(workers)
        task = replace(task_of(program.with_runner(runner)), journal=Journal(tmp_path / f"{workers}"))
        change = STAGES[stage](at_once).optimize(task)
        events = [without_times(event) for event in task.journal.events]
        found.append((change, events, script.calls))
        # Fifteen rows of a candidate, or four of a trial, are run together.
        assert (runner.most_active > 15) == (at_once > 1)
    assert found[0] == found[1]


def test_a_batch_is_taken_from_the_journal(parity, task_of) -> None:
    program, script = parity(WORDS)
    search = STAGES["prompt_search"](4)
    first = search.optimize(task_of(program))
    paid = script.calls
    assert search.optimize(task_of(program)) == first
    assert script.calls == paid


@pytest.mark.parametrize("limit", [20, 37, 80])
def test_the_budget_is_never_exceeded_in_a_batch(parity, task_of, limit: int) -> None:
    program, script = parity(WORDS)
    task = task_of(program, {"lm_calls": limit})
    STAGES["prompt_search"](4).optimize(task)
    assert script.calls <= limit


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_times(each) for name, each in value.items() if name not in ("seconds", "minutes")}
    return [without_times(each) for each in value] if isinstance(value, list) else value
