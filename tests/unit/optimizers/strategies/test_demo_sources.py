"""Demos from several runs of a row, and from teachers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lmprog
from lmprog.aio.loops import run_async
from lmprog.errors import ProviderError
from lmprog.lms.lm import Completion, Request
from lmprog.optimizers.bootstrap import Bootstrap
from lmprog.optimizers.bootstrap import Config as Bootstrapping
from lmprog.optimizers.prompt_search import PromptSearch
from lmprog.optimizers.prompt_search.config import Config as Searching
from lmprog.optimizers.strategies.demo_runs import DemoRuns
from lmprog.optimizers.strategies.demo_sources import Labelled, Solved

TEACHER = """
lmprog: 1
extends: ./parity.yaml
modules: {judge: {lm: writer, instructions: Think first.}}
"""


class Sometimes:
    """Is right about even numbers only in runs that are sampled at 0.7 with an odd seed; odd numbers it always knows."""

    def __init__(self) -> None:
        self.temperatures: list[float | None] = []

    async def complete(self, request: Request) -> Completion:
        self.temperatures.append(request.params.get("temperature"))
        number = int(re.findall(r"\d+", request.messages[-1]["content"])[-1])
        lucky = request.params.get("temperature") == 0.7 and (request.seed or 0) % 2
        return Completion("even" if number % 2 == 0 and lucky else "odd")


class Right:
    async def complete(self, request: Request) -> Completion:
        number = int(re.findall(r"\d+", request.messages[-1]["content"])[-1])
        return Completion(("even", "odd")[number % 2])


def test_samples_of_a_row_find_what_one_run_does_not(write_spec, task_of) -> None:
    script = Sometimes()
    program = lmprog.load(write_spec(), lms={"judge": script})
    (one,) = run_async(lambda: Solved(20).demos(task_of(program))).values()
    assert {demo["parity"] for demo in one} == {"odd"} and set(script.temperatures) == {None}


def test_several_runs_are_sampled_and_equal_demos_are_one(write_spec, task_of) -> None:
    script = Sometimes()
    program = lmprog.load(write_spec(), lms={"judge": script})
    runs = DemoRuns(samples=6, temperature=0.7)
    (demos,) = run_async(lambda: Solved(20, runs).demos(task_of(program))).values()
    assert set(script.temperatures) == {0.7} and len(script.temperatures) == 6 * 20
    assert {demo["parity"] for demo in demos} == {"odd", "even"}
    assert len({demo["number"] for demo in demos}) == len(demos)
    assert all(demo["parity"] == ("even", "odd")[demo["number"] % 2] for demo in demos)


def test_a_teacher_gives_demos_and_its_calls_are_foreseen(write_spec, task_of, tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(TEACHER)
    stage = "bootstrap: {rows: 10, labelled: 0, teachers: [{program: big.yaml, rollouts: 2}]}"
    spec = write_spec(("prompt_search: {trials: 6, bootstrap_rows: 4, demos: [2], demo_sets: 2}", stage))
    program = lmprog.load(spec, lms={"judge": Sometimes(), "writer": Right()})
    options = program.plan.optimize.stages[0].options
    teacher = program.plan.optimize.teachers["big.yaml"]
    assert Bootstrap(Bootstrapping.model_validate(options)).other_runs(program) == [(teacher, 20)]
    without = {name: value for name, value in options.items() if name != "teachers"}
    most = [Bootstrap(Bootstrapping.model_validate(each)).most_calls(program, 20, 30) for each in (options, without)]
    assert most[0] - most[1] == 20
    runs = DemoRuns.model_validate({"teachers": options["teachers"]})
    (demos,) = run_async(lambda: Solved(10, runs).demos(task_of(program))).values()
    assert {demo["parity"] for demo in demos} == {"odd", "even"} and len(demos) == 10


def test_rows_are_no_demos_of_a_module_that_gets_them_changed(write_spec, task_of) -> None:
    for written, count in (("inputs.number", 20), ("inputs.number + 1", 0)):
        spec = write_spec(('with: {number: "${{ inputs.number }}"}', f'with: {{number: "${{{{ {written} }}}}"}}'))
        program = lmprog.load(spec, lms={"judge": Sometimes()})
        (demos,) = run_async(lambda loaded=program: Labelled().demos(task_of(loaded))).values()
        assert len(demos) == count


def test_at_least_may_be_a_score_or_the_best_of_the_row(write_spec, task_of) -> None:
    program = lmprog.load(write_spec(), lms={"judge": Sometimes()})
    (lowest,) = run_async(lambda: Solved(20, DemoRuns(at_least=0.0)).demos(task_of(program))).values()
    assert len(lowest) == 20  # wrong ones too


def test_the_worst_case_of_prompt_search_counts_the_samples(parity) -> None:
    program, _ = parity()
    counts = [
        PromptSearch(Searching(bootstrap_rows=10, samples=samples)).most_calls(program, 20, 30) for samples in (1, 4)
    ]
    assert counts[1] - counts[0] == 30


def test_knn_shows_each_row_its_nearest_demos(parity, task_of) -> None:
    program, script = parity(good="assistant: even")
    task = task_of(program)
    stage = Bootstrap(Bootstrapping(demos="knn", rows=4))
    change = stage.optimize(task)
    (shown,), (pool,) = change.nearest.values(), change.demos.values()
    assert shown in (2, 4, 8, 16) and len(pool) == 20  # all rows are labelled
    tuned = task.program.with_candidate(change)
    assert tuned.plan.modules["judge"].nearest == shown and script.calls <= stage.most_calls(program, 20, 30)


def test_prompt_search_tries_numbers_of_the_nearest_demos(write_spec, task_of) -> None:
    spec = write_spec(("demos: [2], demo_sets: 2", "demos: knn"))
    program = lmprog.load(spec, lms={"judge": Sometimes(), "writer": Right()})
    task = task_of(program)
    PromptSearch(Searching.model_validate(program.plan.optimize.stages[0].options)).optimize(task)
    notes = [event["text"] for event in task.journal.events if event["event"] == "note"]
    assert "judge: 1 instructions, 5 demo sets, 1 layouts" in notes
    kept = [
        event
        for event in task.journal.events
        if "/candidate/" in event.get("key", "") or event.get("key", "").startswith("candidate/")
    ]
    tried = [event["value"]["words"]["nearest"] for event in kept]
    assert any(shown.get("judge") in (2, 4, 8, 16) for shown in tried)


def test_where_outages_end_all_runs_no_absence_of_demos_is_recorded(write_spec, task_of) -> None:
    class Down:
        async def complete(self, request: Request) -> Completion:
            raise ProviderError("down")

    task = task_of(lmprog.load(write_spec(), lms={"judge": Down()}))
    with pytest.raises(ProviderError, match="not one of 20 runs on train rows could be scored"):
        run_async(lambda: Solved(20).demos(task))
    assert task.journal.recall("bootstrap") is None
