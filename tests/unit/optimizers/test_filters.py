"""Instructions that hold words of dev rows are refused; words of train rows and of the program are not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.evaluation import CandidateEvaluator
from lmprog.optimizers.filters import Leaks

TRAIN = [{"text": "My card was swallowed by the machine at the station", "label": "card_swallowed"}]
DEV = [
    {"text": "My card was swallowed by the machine at the airport", "label": "card_swallowed"},
    {"text": "Why was I charged twice for one single coffee?", "label": "charged_twice"},
    {"text": "Top up please", "label": "top_up", "about": {"who": ["Wilhelmina Abernathy"]}},
]


@pytest.fixture
def leaks(parity) -> Leaks:
    program, _ = parity(("Say something.", "A customer of the bank charged_twice writes."))
    return Leaks(program.plan, TRAIN, DEV)


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("Sort messages: 'WHY was I\ncharged, twice for' is charged_twice.", 1),
        ("Messages of Wilhelmina Abernathy are top ups.", 2),
        ("Anything at the station or the airport: the machine at the airport", None),
        ("For example 'was swallowed by the machine at the airport'", 0),
        ("My card was swallowed by the machine at the station", None),  # a train row
        (
            "Use charged_twice and card_swallowed where the customer was charged twice.",
            None,
        ),  # of the program, of train
        ("Top up please", None),  # as anybody might say
        ("", None),
    ],
)
def test_what_is_a_leak(leaks: Leaks, text: str, row: int | None) -> None:
    found = leaks.reject_reason(Candidate(instructions={"judge": text}))
    assert (found is None) if row is None else (found is not None and f"dev row {row}:" in found)


def test_demos_are_not_looked_at(leaks: Leaks) -> None:
    assert leaks.reject_reason(Candidate(demos={"judge": DEV})) is None


def test_many_rows_take_no_long(parity) -> None:
    import time

    program, _ = parity()
    rows = [{"text": " ".join(f"w{(number * word) % 977}" for word in range(60))} for number in range(4000)]
    started = time.process_time()
    Leaks(program.plan, rows[:3000], rows[3000:]).reject_reason(Candidate(instructions={"judge": "w1 w2 w3"}))
    assert time.process_time() - started < 20


def test_a_leaking_proposal_is_refused_and_never_run(parity, task_of, tmp_path) -> None:
    import asyncio

    program, script = parity()
    task = task_of(program)
    rows = [{**row, "note": f"the answer to number {row['number']} is certainly {row['parity']}"} for row in task.dev]
    task = replace(task, screened=rows)
    evaluator = CandidateEvaluator(task)
    leaking = Candidate(instructions={"judge": "Note that the answer to number 2003 is certainly odd."})
    assert asyncio.run(evaluator.evaluate(leaking)) is None
    assert asyncio.run(evaluator.evaluate(leaking)) is None
    assert script.calls == 0
    (refused,) = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    assert refused["event"] == "refused" and "dev row 3: 'the answer to number 2003 is'" in refused["findings"]
