"""The search finds what is good, refuses what a check refuses, keeps to its budget, and changes nothing without need."""

from __future__ import annotations

import pytest

from lmprog.compiler.findings import SpecError
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.prompt_search import PromptSearch
from lmprog.optimizers.prompt_search.config import Config
from lmprog.optimizers.strategies.demo_sources import draw_set

TUNED = "  tune: {judge: [instructions, demos]}\n"
LONG = "word " * 6000


def with_instructions(*texts: str) -> tuple[str, str]:
    listed = "".join(f"      - {text}\n" for text in texts)
    return (TUNED, f"{TUNED}  instructions:\n    judge:\n{listed}")


def config(**options) -> Config:
    return Config.model_validate({"trials": 6, "bootstrap_rows": 4, "demos": [2], "demo_sets": 2, **options})


def test_the_good_instructions_win(parity, task_of) -> None:
    program, _ = parity(with_instructions("Guess.", "Divide by two and look at the rest."))
    change = PromptSearch(config(trials=9)).optimize(task_of(program))
    assert change.instructions == {"judge": "Divide by two and look at the rest."}


def test_demos_can_win_where_instructions_cannot(parity, task_of) -> None:
    program, _ = parity(good="assistant: even")  # an even demo shows the script what to do
    change = PromptSearch(config()).optimize(task_of(program))
    (demos,) = change.demos.values()
    assert {demo["parity"] for demo in demos} == {"odd", "even"}
    assert all(set(demo) == {"number", "parity"} for demo in demos)


def test_where_nothing_helps_nothing_is_changed(parity, task_of) -> None:
    told = []
    program, _ = parity(with_instructions("Guess."), good="no such words")
    task = task_of(program, listeners=[told.append])
    assert PromptSearch(config()).optimize(task) == Candidate()
    assert [event["verdict"] for event in told if event["event"] == "compared"] == ["no significant change"]


def test_a_candidate_that_breaks_a_check_is_refused(parity, task_of) -> None:
    program, _ = parity(with_instructions(LONG, "Divide by two."))
    with pytest.raises(SpecError, match="LMP501"):
        program.with_candidate(Candidate(instructions={"judge": LONG}))
    with pytest.raises(SpecError):
        program.with_candidate(Candidate(demos={"judge": [{"number": 1, "parity": "neither"}]}))
    task = task_of(program)
    change = PromptSearch(config(trials=9)).optimize(task)
    assert change.instructions == {"judge": "Divide by two."}
    refused = [event for event in task.journal.events if event["event"] == "refused"]
    assert refused and all("LMP501" in event["findings"] for event in refused)


@pytest.mark.parametrize("limit", [1, 20, 37, 80])
def test_the_budget_is_never_exceeded(parity, task_of, limit: int) -> None:
    from lmprog.errors import BudgetExceeded

    program, script = parity(with_instructions("Divide by two."))
    task = task_of(program, {"lm_calls": limit})
    try:
        PromptSearch(config()).optimize(task)
    except BudgetExceeded:
        assert limit < 30  # not even the program as it is could be scored
    assert script.calls <= limit
    assert task.budget.spent.lm_calls == script.calls


def test_the_bound_of_the_dry_run_holds(parity, task_of) -> None:
    program, script = parity(with_instructions("Divide by two.", "Guess.", "Look."))
    search = PromptSearch(config(trials=9))
    search.optimize(task_of(program))
    assert 0 < script.calls <= search.most_calls(program, 20, 30)


def test_a_resumed_search_pays_for_nothing_twice_and_ends_the_same(parity, task_of) -> None:
    program, script = parity(with_instructions("Divide by two.", "Guess."))
    search = PromptSearch(config(trials=9))
    first = search.optimize(task_of(program))
    paid = script.calls
    assert search.optimize(task_of(program)) == first
    assert script.calls == paid


def test_proposals_of_an_lm_are_tried(parity, task_of) -> None:
    from lmprog.lms.lm import Completion

    class Writer:
        async def complete(self, request):
            number = request.key[-1]
            assert "parity" in request.messages[0]["content"]
            return Completion(f"Here: <instructions>{('Guess.', 'Divide by two!')[number % 2]}</instructions>")

    program, _ = parity((TUNED, f"{TUNED}  proposer: writer\n"))
    program = program.with_lms({"writer": Writer()})
    change = PromptSearch(config(trials=9)).optimize(task_of(program))
    assert change.instructions == {"judge": "Divide by two!"}


def test_demo_sets_are_spread_over_the_labels(parity) -> None:
    program, _ = parity()
    module = program.plan.modules["judge"]
    pool = [{"number": n, "parity": "even" if n < 3 else "odd"} for n in range(40)]
    drawn = draw_set(module, pool, 6, seed=1)
    assert sorted(demo["parity"] for demo in drawn) == ["even"] * 3 + ["odd"] * 3
    assert len({demo["number"] for demo in drawn}) == 6
    assert draw_set(module, pool, 6, seed=1) == drawn != draw_set(module, pool, 6, seed=2)
    assert len(draw_set(module, pool, 100, seed=0)) == 40
