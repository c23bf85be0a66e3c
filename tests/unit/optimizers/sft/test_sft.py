"""The `sft` stage on small models: which replies it learns, by which prompts, and what it says where there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

from lmprog.optimizers.optimizer import Task, find
from lmprog.optimizers.sft.config import Config
from lmprog.optimizers.sft.stage import sft_stage

QUICK: dict[str, Any] = {"samples": 4, "steps": 6, "batch": 3, "evaluate_every": 3, "credit": 0, "learning_rate": 0.02}


def notes(task: Task) -> list[str]:
    return [event["text"] for event in task.journal.events if event["event"] == "note"]


def test_each_epoch_learns_every_reply_once_and_all_modules_are_trained(research, tmp_path: Path) -> None:
    task = research(tmp_path)
    stage = sft_stage(task, Config.model_validate({**QUICK, "batch": 1}))
    with stage.runner:
        assert stage.begin()
        count = len(stage.source.learnt)
        epochs = [[stage.rows(epoch * count + place) for place in range(count)] for epoch in range(2)]
    learnt = sorted((reply.prompt_token_ids, reply.token_ids) for reply in stage.source.learnt)
    assert len(set(learnt)) == len(learnt)
    orders = [[(row.prompt_ids, row.reply_ids) for rows in epoch for row in rows] for epoch in epochs]
    assert [sorted(order) for order in orders] == [learnt, learnt] and orders[0] != orders[1]
    assert {reply.module for reply in stage.source.learnt} == {"query", "answer"}


@pytest.mark.slow
def test_training_makes_the_replies_likelier_and_scores_dev_as_often_as_it_says(research, tmp_path: Path) -> None:
    task = research(tmp_path)
    sft_stage(task, Config.model_validate({**QUICK, "steps": 12, "evaluate_every": 5})).run()
    steps = [event for event in task.journal.events if event["event"] == "step"]
    assert steps[-1]["loss"] < 0.9 * steps[0]["loss"]
    assert [event["step"] for event in task.journal.events if event["event"] == "dev"] == [0, 5, 10, 12]


def test_a_resumed_stage_takes_the_runs_that_are_kept(research, tmp_path: Path, monkeypatch) -> None:
    task = research(tmp_path)
    first = sft_stage(task, Config.model_validate(QUICK))
    with first.runner:
        first.begin()
    second = sft_stage(task, Config.model_validate(QUICK))
    monkeypatch.setattr(second.source, "_best", lambda *of: pytest.fail("runs are made again"))
    with second.runner:
        second.begin()
    assert second.source.learnt == first.source.learnt


def test_where_no_run_is_good_enough_it_says_so_and_changes_nothing(research, tmp_path: Path) -> None:
    task = research(tmp_path)
    change = sft_stage(task, Config.model_validate({**QUICK, "at_least": 1.5})).run()
    assert change.as_overlay() == {}
    assert notes(task) == [
        "of 3 train rows 0 have a run with a score of 1.5 or more, 3 have none",
        "no reply to learn: sft changes nothing; more samples, teachers or labelled rows may give some",
    ]


def test_the_worst_case_counts_runs_scorings_and_the_credit_report(research, tmp_path: Path) -> None:
    program = research(tmp_path).program
    config = {"samples": 4, "rows": 2, "steps": 5, "evaluate_every": 2}
    most = find("sft")(Config.model_validate({**config, "credit": 0})).most_calls(program, 3, 7)
    a_run = 3 + 1  # queries, and an answer
    assert most == (2 * 4 + (1 + 3) * 7) * a_run
    assert find("sft")(Config.model_validate({**config, "credit": 1})).most_calls(program, 3, 7) > most


LABELLED = """
lmprog: 1
name: parity
inputs: {text: str}
outputs: {word: "${{ steps.say.word }}"}
lms: {lm: {model: hf/MODEL, params: {max_tokens: 6}}}
modules:
  say: {lm: lm, inputs: {text: str}, outputs: {word: {enum: [odd, even]}}, instructions: Say it}
steps:
  say: {module: say, with: {text: "${{ inputs.text }}"}}
data: {train: rows.jsonl, dev: rows.jsonl}
metrics:
  same: {python: "./metrics.py:same", with: {found: "${{ outputs.word }}", wanted: "${{ row.word }}"}}
optimize:
  metric: same
  tune: {say: [weights]}
  stages: [{sft: {samples: 0, labelled: 9}}]
"""


@pytest.fixture
def parity_task(tiny_model, tmp_path: Path):
    """The task of a program whose train rows label its module."""

    def make() -> Task:
        import torch

        import lmprog
        from lmprog.lms.local import LocalLM
        from lmprog.lms.local.weights import Weights
        from lmprog.optimizers.journal.files import Journal
        from lmprog.scoring.data import rows_of
        from lmprog.spending.budget import Budget

        model = f"hf/{tiny_model()}"
        (tmp_path / "program.yaml").write_text(LABELLED.replace("hf/MODEL", model))
        (tmp_path / "metrics.py").write_text("def same(found, wanted):\n    return found == wanted\n")
        rows = [{"text": word, "word": ("odd", "even")[len(word) % 2 == 0]} for word in ("a", "be", "cat", "deer")]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        lm = LocalLM(Weights(model, dtype=torch.float32))
        budget = Budget({})
        program = lmprog.load(tmp_path / "program.yaml", lms={"lm": lm}).with_budget(budget)
        rows = rows_of(program.plan, "train")
        return Task(program, rows, rows, "same", budget, Journal(tmp_path / "run", ()), 0)

    return make


def test_labelled_rows_are_learnt_as_the_program_would_send_and_reply(parity_task) -> None:
    task = parity_task()
    stage = sft_stage(task, Config.model_validate(task.program.plan.optimize.stages[0].options))
    with stage.runner:
        assert stage.begin()
        rows = stage.rows(0)
    lm = stage.policy.lm_of["say"]
    assert len(rows) == 4 and {row.advantage for row in rows} == {1.0}
    said = {lm.text(row.prompt_ids).split()[-1]: lm.text(row.reply_ids) for row in rows}
    assert sorted(said.values()) == ["even", "even", "odd", "odd"]
    assert all(row.reply_ids[-1] in lm.weights.end_ids for row in rows)  # the end of a reply is learnt too


@pytest.mark.slow
def test_labelled_rows_make_the_program_right(parity_task) -> None:
    task = parity_task()
    options = {"samples": 0, "labelled": 4, "steps": 40, "learning_rate": 0.02, "evaluate_every": 40}
    sft_stage(task, Config.model_validate(options)).run()
    scores = [event["score"]["mean"] for event in task.journal.events if event["event"] == "dev"]
    assert scores == [0.0, 1.0]
