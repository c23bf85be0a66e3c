"""The search finds what is good, refuses what a check refuses, keeps to its budget, and changes nothing without need."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from lmprog.compiler.findings.finding import SpecError
from lmprog.compiler.plan import Field
from lmprog.compiler.prompts.messages import PromptBuilder, standard_layout
from lmprog.compiler.types.lattice import BOOL, INT, STR, Enum
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.prompt_search import PromptSearch
from lmprog.optimizers.prompt_search.config import Config
from lmprog.optimizers.strategies.demo_sources import draw_set
from lmprog.optimizers.strategies.layouts import layouts
from lmprog.optimizers.strategies.selectors import TPE

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
    assert [event["verdict"] for event in told if event["event"] == "compared"] == ["no better"]


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


def test_the_second_half_of_the_proposals_is_written_in_the_light_of_the_scores(parity, task_of) -> None:
    from lmprog.lms.lm import Completion

    asked = []

    class Writer:
        async def complete(self, request):
            asked.append(request.messages[0]["content"])
            return Completion(f"<instructions>Guess number {len(asked)}.</instructions>")

    program, _ = parity((TUNED, f"{TUNED}  proposer: writer\n"))
    PromptSearch(config(trials=10, proposals=4)).optimize(task_of(program.with_lms({"writer": Writer()})))
    assert len(asked) == 4
    assert all("judge: the module 'judge' with number = inputs.number" in said for said in asked)
    assert "parity: one of 'even' (10), 'odd' (10)" in asked[0]
    assert re.search(r"0\.\d{3}: Say something\.", asked[0])  # as it is, on the searched rows
    assert "Guess number 1." in asked[2] and "Guess number 1." not in asked[0]
    assert "Guess number 1." in asked[1].split("Proposed just now")[1]


def test_finalists_are_run_again_where_that_is_asked_for(parity, task_of) -> None:
    calls = []
    for repeats in (1, 3):
        program, script = parity(with_instructions("Divide by two."), ("[instructions, demos]", "[instructions]"))
        search = PromptSearch(config(repeats=repeats))
        task = task_of(program)
        task = replace(task, journal=Journal(task.journal.folder / str(repeats)))
        assert search.optimize(task).instructions == {"judge": "Divide by two."}
        assert script.calls <= search.most_calls(program, 20, 30)
        calls.append(script.calls)
    assert calls[1] - calls[0] == 2 * 15 * 2  # the start and one finalist, on the 15 rows that choose


def test_most_trials_see_a_minibatch_and_the_best_all_searched_rows(parity, task_of) -> None:
    from lmprog.optimizers.prompt_search.search import Search

    texts = [f"Guess {number}." for number in range(8)]
    program, _ = parity(with_instructions(*texts, "Divide by two."), ("[instructions, demos]", "[instructions]"))
    search = Search(task_of(program), config(trials=9, minibatch=4, finalists=2))
    change = search.task.program.with_candidate(asyncio.run(search.run()))
    assert change.plan.modules["judge"].instructions == "Divide by two."
    rows = sorted(scored.rows for scored in search.evaluator.scored.values())
    assert rows == [4] * 4 + [8] * 2 + [15] * 4  # the program as it is stands on all


def test_a_layout_can_win(parity, task_of) -> None:
    program, _ = parity(("[instructions, demos]", "[layout]"), good="parity:")
    program = program.with_candidate(Candidate(demos={"judge": [{"number": 2, "parity": "even"}]}))
    task = task_of(program)
    change = PromptSearch(config()).optimize(task)
    assert any("parity:" in template for template in change.layouts["judge"].values())
    tuned = program.with_candidate(change)
    assert tuned.plan.modules["judge"].demos == program.plan.modules["judge"].demos
    assert Candidate.from_json(change.as_json()) == change


def test_a_doubted_name_keeps_what_it_is_half_of_the_time() -> None:
    selector = TPE({"a": 9, "b": 9}, seed=1, startup=60, doubted=["a"])
    drawn = []
    for _ in range(61):
        drawn.append(dict(selector.ask(1)[0]))
        selector.tell([0.0])
    assert drawn[0] == {"a": 0, "b": 0}
    assert 22 <= sum(picked["a"] == 0 for picked in drawn[1:]) <= 46
    assert sum(picked["b"] == 0 for picked in drawn[1:]) <= 16


def test_every_other_trial_is_the_best_so_far_with_one_name_changed() -> None:
    wanted = {"a": 7, "b": 3, "c": 11}
    selector = TPE({"a": 9, "b": 9}, seed=4, startup=6)
    beside = 0
    best, so_far = -1, {"a": 0, "b": 0}
    for number in range(120):
        if number == 20:
            selector.grow({"a": 9, "b": 9, "c": 12})
        picked = dict(selector.ask(1)[0])
        if number > 7 and number % 2:
            beside += sum(picked[name] != so_far.get(name, 0) for name in picked) == 1
        score = sum(picked.get(name) == place for name, place in wanted.items())
        if score > best:
            best, so_far = score, picked
        selector.tell([score])
    assert beside == 56
    assert so_far == wanted


def test_layouts_hold_the_same_words_and_values(parity) -> None:
    program, _ = parity()
    program = program.with_candidate(Candidate(demos={"judge": [{"number": 2, "parity": "even"}]}))
    seen = []
    for variant in layouts(program.plan.modules["judge"]):
        module = program.with_candidate(Candidate(layouts={"judge": variant})).plan.modules["judge"]
        messages = PromptBuilder(module, {}).build({"number": 7}).messages
        said = "\n".join(message["content"] for message in messages)
        assert "Say something." in said and [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
        seen.append((messages[1]["content"], messages[2]["content"], messages[3]["content"]))
        assert said.count("one of odd, even") == 1
        assert layouts(module) == []  # a layout that is chosen is the author's
    assert seen == [
        ("number: 2\nparity:", "even", "number: 7\nparity:"),
        ("2", "parity: even", "7"),
        ("number: 2", "parity: even", "number: 7"),
    ]


@pytest.mark.parametrize(
    ("answer", "kind", "variants"),
    [
        ("grade", Enum(("a: b", "b")), 3),
        ("grade", INT, 3),
        ("grade", BOOL, 3),
        ("grade", STR, 1),
        ("grade_2", INT, 1),  # which of the two numbers is the value?
        ("what_the_customer_wants_us_to_do_for_them_now", Enum(("a", "b")), 1),  # too long to be taken for a label
    ],
)
def test_replies_name_their_output_only_where_the_value_is_found_behind_the_name(
    parity, answer, kind, variants
) -> None:
    program, _ = parity()
    module, outputs = program.plan.modules["judge"], {answer: Field(kind)}
    module = replace(module, outputs=outputs, layout=standard_layout(module.inputs, outputs, module.format))
    assert len(layouts(module)) == variants


def test_replies_that_can_all_be_read_do_not_name_their_output(parity) -> None:
    program, _ = parity()
    (named,) = layouts(replace(program.plan.modules["judge"], decoding="constrained"))
    assert "assistant" not in named


@pytest.mark.parametrize(("options", "sets"), [({"trials": 30}, 30), ({"trials": 6}, 12), ({"demo_sets": 2}, 2)])
def test_there_is_a_demo_set_for_each_trial(parity, task_of, options, sets) -> None:
    from lmprog.optimizers.prompt_search.search import Search

    program, _ = parity()
    search = Search(task_of(program), Config.model_validate(options))
    assert search.gatherer.demo_sets == sets


def test_demo_sets_are_spread_over_the_labels(parity) -> None:
    program, _ = parity()
    module = program.plan.modules["judge"]
    pool = [{"number": n, "parity": "even" if n < 3 else "odd"} for n in range(40)]
    drawn = draw_set(module, pool, 6, seed=1)
    assert sorted(demo["parity"] for demo in drawn) == ["even"] * 3 + ["odd"] * 3
    assert len({demo["number"] for demo in drawn}) == 6
    assert draw_set(module, pool, 6, seed=1) == drawn != draw_set(module, pool, 6, seed=2)
    assert len(draw_set(module, pool, 100, seed=0)) == 40
