"""What is kept of test rows in the journal: short plain texts, and nothing that a private value could stand in."""

from __future__ import annotations

import json
from pathlib import Path

import lmprog
from lmprog.lms.lm import Completion
from lmprog.optimizers.redaction import LENGTH, ROWS, ShownRows, short
from lmprog.scoring.evaluation import evaluate

PRIVATE = """
name: desk
inputs: {{who: {{type: str, private: true}}, topic: str}}
outputs: {{answer: "${{{{ steps.ask.answer }}}}", about: "${{{{ inputs.topic }}}}"{more}}}
modules:
  ask: {{lm: lm, inputs: {{who: str, topic: str}}, outputs: {{answer: {answer}}}, instructions: Answer.}}
steps:
  ask: {{module: ask, with: {{who: "${{{{ inputs.who }}}}", topic: "${{{{ inputs.topic }}}}"}}}}
data: {{test: test.jsonl}}
metrics:
  right: {{python: "./metrics.py:right", with: {{answer: "${{{{ outputs.answer }}}}", label: "${{{{ row.label }}}}"}}}}
"""
METRICS = """
import lmprog
def right(answer: str, label: str):
    return lmprog.Score(float(answer == label), f"wanted {label}, for Ada Lovelace")
"""
ROW = {"who": "Ada Lovelace", "topic": "bills", "label": "Ada owes 3"}


def kept(program, scripted, write, answer: str = "str", more: str = "") -> tuple[list, list]:
    write(METRICS, "metrics.py")
    write(json.dumps(ROW) + "\n", "test.jsonl")
    made = program(PRIVATE.format(answer=answer, more=more), scripted(lambda request: Completion("Ada owes 3")))
    shown = ShownRows(made.plan)
    return shown.rows([ROW]), shown.answers(evaluate(made, [ROW], "right"))


def test_private_inputs_and_what_they_reach_are_not_kept(program, scripted, write) -> None:
    rows, answers = kept(program, scripted, write)
    assert rows == [{"topic": "bills"}]
    assert answers == [{"outputs": {"about": "bills"}}]


def test_an_output_that_may_cross_is_kept(program, scripted, write) -> None:
    _, answers = kept(program, scripted, write, answer="{type: str, declassify: it names nobody}")
    assert answers == [{"outputs": {"answer": "Ada owes 3", "about": "bills"}}]


def test_a_private_column_is_a_private_input(program, scripted, write) -> None:
    write(METRICS, "metrics.py")
    write(json.dumps(ROW) + "\n", "test.jsonl")
    text = PRIVATE.format(answer="str", more="").replace("{type: str, private: true}", "str")
    made = program(text.replace("{test: test.jsonl}", "{test: {path: test.jsonl, private: [who]}}"))
    assert ShownRows(made.plan).rows([ROW]) == [{"topic": "bills"}]


def test_without_private_values_the_whole_row_is_kept_and_why_it_failed(program, scripted, write) -> None:
    write(METRICS, "metrics.py")
    write(json.dumps(ROW) + "\n", "test.jsonl")
    text = PRIVATE.format(answer="str", more="").replace("{type: str, private: true}", "str")
    made = program(text, scripted(lambda request: Completion("no")))
    shown = ShownRows(made.plan)
    assert shown.rows([ROW]) == [ROW]
    (answer,) = shown.answers(evaluate(made, [ROW], "right"))
    assert answer == {
        "outputs": {"answer": "no", "about": "bills"},
        "feedback": "wanted Ada owes 3, for Ada Lovelace",
    }


def test_values_are_short_plain_and_few(program) -> None:
    assert short([1, {"a": None}]) == '[1, {"a": null}]'
    assert short("x" * 9999) == "x" * LENGTH + "…"
    assert short("half \ud83d a pair").encode() == b"half \\ud83d a pair"
    made = program("name: p\ninputs: {a: int}\noutputs: {b: '${{ inputs.a }}'}\nsteps: {}\n")
    assert len(ShownRows(made.plan).rows([{"a": 1}] * (ROWS + 5))) == ROWS


def test_the_journal_of_an_optimization_holds_them(write_spec, tmp_path: Path, scripted) -> None:
    lm = scripted(lambda request: Completion("odd"))
    lmprog.optimize(write_spec(), lms={"judge": lm, "writer": lm}, run_dir=tmp_path / "run", out=tmp_path / "o.yaml")
    events = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    (tested,) = [event for event in events if event.get("key", "").startswith("test/")]
    assert tested["metric"] == "accuracy"
    assert tested["rows"][0] == {"number": "3000", "parity": "even"}
    assert tested["answers"][0] == {"outputs": {"parity": "odd"}}
    assert len(tested["rows"]) == len(tested["answers"]) == len(tested["value"]) == 20
