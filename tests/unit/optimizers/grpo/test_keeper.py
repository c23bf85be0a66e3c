"""The keeper of a stage of weights: the best step on the rows that choose, and what a resumed run finds again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmprog.errors import ProviderError
from lmprog.optimizers.grpo import keeper as module
from lmprog.optimizers.grpo.keeper import Keeper
from lmprog.optimizers.grpo.row_source import SamplerState
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.optimizer import Task
from lmprog.scoring.evaluation import Scores
from lmprog.spending.budget import Budget, Spent

ROWS = 20
PROGRAM: Any = None
"""No program is run: the scores of each step are given."""


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Keeper]:
    """A keeper whose scorings give these scores, one after the other; a number stands for that score of every row."""

    def make(*scores: float | Sequence[float | None]) -> Keeper:
        left = iter(scores)

        async def scored(*args: Any, **how: Any) -> Scores:
            values = next(left)
            by_row = [values] * ROWS if isinstance(values, int | float) else [*values]
            return Scores.of_values("m", enumerate(by_row))

        monkeypatch.setattr(module, "aevaluate", scored)
        rows = [{"row": number} for number in range(ROWS)]
        return Keeper(Task(PROGRAM, rows, rows, "m", Budget({}), Journal(tmp_path), 0), 1)

    return make


def notes(keeper: Keeper) -> list[str]:
    return [event["text"] for event in keeper.task.journal.events if event["event"] == "note"]


def played(keeper: Keeper, steps: int) -> list[bool]:
    asyncio.run(keeper.begin(PROGRAM))
    return [asyncio.run(keeper.is_best(step, PROGRAM)) for step in range(1, steps + 1)]


def test_the_first_of_equals_is_best_and_is_chosen_where_it_is_a_gain(keeper) -> None:
    found = keeper(0.5, 0.4, 0.7, 0.7, 0.6)
    assert played(found, 4) == [True, True, False, False]
    assert found.best is not None and found.best[0] == found.chosen() == 2
    (compared,) = [event for event in found.task.journal.events if event["event"] == "compared"]
    assert (compared["verdict"], compared["difference"]["mean"]) == ("chosen", pytest.approx(0.2))
    assert [event["step"] for event in found.task.journal.events if event["event"] == "dev"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("best", [0.5, 0.4])
def test_nothing_is_chosen_where_no_step_is_a_gain(keeper, best: float) -> None:
    found = keeper(0.5, best)
    assert played(found, 1) == [True]
    assert found.chosen() is None


def test_nothing_is_chosen_without_a_step(keeper) -> None:
    found = keeper(0.5)
    assert played(found, 0) == [] and found.chosen() is None


def test_a_resumed_run_scores_the_program_again_where_outages_left_nothing_before(keeper) -> None:
    with pytest.raises(ProviderError, match="no row could be scored"):
        played(keeper([None] * ROWS), 0)
    found = keeper(0.5)
    assert played(found, 0) == [] and found.before is not None and found.before.mean == 0.5


def test_a_step_that_outages_cut_is_never_best_and_says_so(keeper) -> None:
    cut = [1.0] * (ROWS - 5) + [None] * 5
    found = keeper(0.5, cut, 0.6)
    assert played(found, 2) == [False, True]
    assert notes(found) == ["step 1: outages left 5 of 20 dev rows without a score, so nothing is chosen by it"]


def test_nothing_is_chosen_against_a_start_that_outages_cut(keeper) -> None:
    found = keeper([0.0] * (ROWS - 5) + [None] * 5, 1.0)
    assert played(found, 1) == [True]
    assert found.chosen() is None
    assert notes(found)[-1].startswith("the program before: outages left 5 of 20 dev rows")


def test_a_resumed_run_finds_the_best_the_state_and_what_was_spent(keeper) -> None:
    first = keeper(0.5, 0.75, 0.25)
    played(first, 2)
    first.count_spending()
    first.task.budget.charge(Spent(7, 5, 3, 0.5), Spent(1, 2, 3))
    first.checkpoints.of_trainer(2).mkdir(parents=True)
    first.checkpoints.best(1).mkdir()
    first.commit(2, SamplerState(6, {"a": 0.5}, {"": [0.0, 1.0]}))
    again = keeper()
    done = again.go_on()
    assert done is not None and (done.step, done.taken, done.averages, done.levels) == (
        2,
        6,
        {"a": 0.5},
        {"": [0.0, 1.0]},
    )
    assert first.best is not None and again.best is not None
    assert (again.best[0], again.best[1].by_row) == (1, first.best[1].by_row)
    assert again.task.budget.spent.lm_calls == 7 and again.task.budget.largest.completion_tokens == 3
    assert keeper().checkpoints.last() == done
