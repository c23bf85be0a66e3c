"""Rows that `lmprog rows` made: corrections and good answers are labels, comments are words for gepa."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lmprog
from lmprog.aio.loops import run_async
from lmprog.compiler import compile_file
from lmprog.compiler.rows.feedback import said_of
from lmprog.optimizers.evaluation import CandidateEvaluator
from lmprog.optimizers.gepa.adapter import Place, ProgramAdapter
from lmprog.optimizers.sft.config import Config
from lmprog.optimizers.strategies.demo_sources import Labelled, labelled

ROWS = [
    {"number": 1, "parity": "odd", "score": 1, "run": "a"},
    {"number": 2, "parity": "even", "score": 0.2, "answer": {"parity": "odd"}, "comment": "two is even", "run": "b"},
    {"number": 3, "parity": None, "score": 0, "answer": {"parity": "even"}, "run": "c"},
    {"number": 4, "parity": "odd", "run": "d"},
    {"number": 5, "parity": "odd", "score": 0.6, "comment": "right, but slow", "run": "e"},
]


def of_use(write_spec, tmp_path: Path, feedback: str = "true") -> lmprog.Program:
    # A metric that takes no null: rows without labels are for metrics that read none.
    spec = write_spec(
        ('wanted: "${{ row.parity }}"', "wanted: \"${{ default(row.parity, '?') }}\""),
        ("train: train.jsonl", f"train: {{path: train.jsonl, feedback: {feedback}}}"),
    )
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return lmprog.load(spec)


def test_corrections_and_good_answers_are_labels(write_spec, task_of, tmp_path: Path) -> None:
    program = of_use(write_spec, tmp_path)
    (found,) = run_async(lambda: Labelled().demos(task_of(program))).values()
    assert found == [{"number": 1, "parity": "odd"}, {"number": 2, "parity": "even"}, {"number": 5, "parity": "odd"}]
    strict = labelled(program.plan, program.plan.modules["judge"], ROWS, Config(accepted=1).accepted)
    assert [demo["number"] for demo in strict] == [1, 2]
    # Without `feedback: true` the columns are columns like others.
    plain = of_use(write_spec, tmp_path, "false")
    assert [demo["number"] for demo in labelled(plain.plan, plain.plan.modules["judge"], ROWS)] == [1, 2, 4, 5]


def test_gepa_reads_comments_as_feedback(write_spec, task_of, tmp_path: Path) -> None:
    adapter = ProgramAdapter(task := task_of(of_use(write_spec, tmp_path)), CandidateEvaluator(task), 100)
    call = {"module": "judge", "inputs": {}, "reply": "odd", "error": None}
    batch = [{"place": Place("train", index), "score": 0.0, "feedback": "", "calls": [call]} for index in range(5)]

    class Batch:
        trajectories = batch

    read = adapter.make_reflective_dataset({}, Batch(), ["judge"])["judge"]  # type: ignore[arg-type]
    words = "The earlier answer parity = odd was scored 0.2 by a person (0 is wrong, 1 is right), who said: two is even"
    assert read[1]["Feedback"] == f"The run scored 0.0 (0.0 to 1.0). {words}"
    assert [entry.get("Wanted of the whole program") for entry in read[:3]] == [
        {"parity": "odd"},
        {"parity": "even"},
        None,
    ]
    assert read[0]["Feedback"] == "The run scored 0.0 (0.0 to 1.0)."


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"score": 1.0}, None),
        ({"comment": "too long"}, "An earlier answer was looked at by a person, who said: too long"),
        ({"answer": {"a": 1, "b": "x"}}, "The earlier answer a = 1, b = x was corrected by a person."),
    ],
)
def test_feedback_in_words(row, said) -> None:
    assert said_of(row) == said


def test_rows_without_columns_of_feedback_are_a_finding(write_spec) -> None:
    found = compile_file(write_spec(("train: train.jsonl", "train: {path: train.jsonl, feedback: true}"))).findings
    said = "the train data have none of the columns of feedback: score, comment, answer, run"
    assert [finding.message for finding in found if finding.code == "LMP601"] == [said]
