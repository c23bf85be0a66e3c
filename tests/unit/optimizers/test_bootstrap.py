"""bootstrap gives modules demos of their own solved runs, within its bounds, and the same when resumed."""

from __future__ import annotations

import asyncio

import pytest

from lmprog.optimizers.bootstrap import Bootstrap, Config
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.strategies.demo_sources import bootstrapped
from lmprog.scoring.evaluation import RowScore


def stage(**options) -> Bootstrap:
    return Bootstrap(Config.model_validate({"sets": 5, "demos": 4, "labelled": 3, "rows": 8, **options}))


def test_demos_win_where_they_help(parity, task_of) -> None:
    program, script = parity(good="assistant: even")
    found, task = stage(), task_of(program)
    change = found.optimize(task)
    (demos,) = change.demos.values()
    assert len(demos) <= 4 and {"number": int, "parity": str} == {name: type(v) for name, v in demos[0].items()}
    assert any(demo["parity"] == "even" for demo in demos)
    assert 0 < script.calls <= found.most_calls(program, 20, 30)
    paid = script.calls
    assert found.optimize(task_of(program)) == change
    assert script.calls == paid


def test_without_labels_only_solved_runs_are_shown(parity, task_of) -> None:
    program, _ = parity(good="assistant: even")  # it always says odd: no even demo comes of its own runs
    assert stage(labelled=0).optimize(task_of(program)) == Candidate()


def test_every_other_set_has_the_most_demos(parity) -> None:
    program, _ = parity()
    pool = [{"number": number, "parity": "odd" if number % 2 else "even"} for number in range(20)]
    judge = program.plan.modules["judge"]
    sizes = [len(stage()._set(judge, pool[:10], pool[10:], number, seed=0)) for number in range(40)]
    assert set(sizes[1::2]) == {4} and len(set(sizes[2::2])) > 1


@pytest.mark.parametrize("limit", [30, 60])
def test_the_budget_is_kept(parity, task_of, limit: int) -> None:
    program, script = parity(good="assistant: even")
    stage().optimize(task_of(program, {"lm_calls": limit}))
    assert script.calls <= limit


def test_no_demo_is_taken_from_a_run_that_failed_whatever_is_asked_of_it(parity) -> None:
    program, _ = parity()
    result = asyncio.run(program.run({"number": 1}))
    judge = program.plan.modules["judge"]
    for kind in ("unreadable", "tool", "expression", "metric", "limit", "timeout"):
        assert bootstrapped(judge, [RowScore(0, 0, 0.0, result, kind=kind)], 0.0, 0.0) == []
    assert bootstrapped(judge, [RowScore(0, 0, None, result, kind="connection")], 0.0, 0.0) == []
    assert len(bootstrapped(judge, [RowScore(0, 0, 0.0, result)], 0.0, 0.0)) == 1
