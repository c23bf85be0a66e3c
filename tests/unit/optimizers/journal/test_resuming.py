"""A run goes on only with what it was begun from: what has changed is named, and a stage can be begun again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog.errors import UsageError
from lmprog.optimizers.journal.events import read_journal
from tests.unit.optimizers.staged.test_staged import Fixed, fixed, run, stages  # noqa: F401

TWO = ("Guess.", "Divide by two.")


def cut(folder: Path, after: str) -> None:
    """Keep the journal up to the first line that holds `after`, as a kill would have left it."""
    path = folder / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    ended = next(place for place, line in enumerate(lines) if after in line)
    path.write_text("".join(lines[: ended + 1]))


def changed_rows(spec: Path, split: str) -> None:
    path = spec.with_name(f"{split}.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, "parity": "odd"}) + "\n" for row in rows))


def replaced(spec: Path, old: str, new: str) -> None:
    assert old in spec.read_text()
    spec.write_text(spec.read_text().replace(old, new))


CHANGES: dict[str, tuple[Any, str, str]] = {
    "labels of test": (lambda spec: changed_rows(spec, "test"), "data.test", "test"),
    "labels of dev": (lambda spec: changed_rows(spec, "dev"), "data.dev", "1"),
    "labels of train": (lambda spec: changed_rows(spec, "train"), "data.train", "1"),
    "the metric": (
        lambda spec: spec.with_name("metrics.py").write_text("def same(found, wanted):\n    return 0.5\n"),
        "metrics.accuracy.python: metrics.py",
        "1",
    ),
    "the instructions": (lambda spec: replaced(spec, "Say something.", "Say."), "modules.judge.instructions", "1"),
    "what is tuned": (lambda spec: replaced(spec, "[instructions, demos]", "[instructions]"), "optimize.tune", "1"),
    "a stage that is done": (lambda spec: replaced(spec, "Guess.", "Look."), "optimize.stages[0]", "1"),
    "the stage at work": (lambda spec: replaced(spec, "Divide by two.", "Divide."), "optimize.stages[1]", "2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_refused_with_its_key_and_what_to_do(write_spec, fixed, tmp_path: Path, what: str) -> None:  # noqa: F811
    spec, folder = write_spec(stages(*TWO)), tmp_path / "run"
    run(spec, folder)
    cut(folder, f'"test/{lmprog.optimizers.candidate.START.digest}"' if "test" in what else '"number": 2')
    change, key, stage = CHANGES[what]
    change(spec)
    before = (folder / "journal.jsonl").read_bytes()
    with pytest.raises(UsageError) as refused:
        run(spec, folder, resume=True)
    assert f"was begun from something else: `{key}` is changed. Undo that" in str(refused.value)
    assert f"with --restart-stage {stage}, or start a new run in another folder" in str(refused.value)
    assert (folder / "journal.jsonl").read_bytes() == before
    # Doing what the message says goes on, and all scores are of what there is now.
    again, _ = run(spec, folder, restart_stage=stage)
    anew, _ = run(spec, tmp_path / "anew")
    assert again.report["test"] == anew.report["test"]
    assert [stage["validate"] for stage in again.report["stages"]] == [
        stage["validate"] for stage in anew.report["stages"]
    ]
    assert run(spec, folder, resume=True)[1].asked == []


SAFE: dict[str, Any] = {
    "budget": {"budget": {"lm_calls": 5000}},
    "concurrency": {"overrides": {"lms.judge.limits.concurrency": 3}},
    "where it is served": {"overrides": {"lms.judge.api_base": "http://127.0.0.1:9/v1"}},
    "a stage that is not begun": {
        "overrides": {"optimize.stages": [{"fixed": {"words": TWO[0]}}, {"fixed": {"words": "x"}}]}
    },
    "no second stage": {"overrides": {"optimize.stages": [{"fixed": {"words": TWO[0]}}]}},
}


@pytest.mark.parametrize("what", SAFE)
def test_what_is_safe_to_change_is_not_refused(write_spec, fixed, tmp_path: Path, what: str) -> None:  # noqa: F811
    spec, folder = write_spec(stages(*TWO)), tmp_path / "run"
    run(spec, folder)
    cut(folder, '"stage/1-fixed"')
    Fixed.made = 0
    run(spec, folder, resume=True, **SAFE[what])
    assert Fixed.made == (0 if what == "no second stage" else 1)


def test_a_stage_is_begun_again_from_what_the_earlier_ones_found(write_spec, fixed, tmp_path: Path) -> None:  # noqa: F811
    spec, folder = write_spec(stages("Divide by two.", "Guess.")), tmp_path / "run"
    run(spec, folder)
    replaced(spec, "Guess.", "Divide again.")
    Fixed.made = 0
    again, _ = run(spec, folder, restart_stage="2")
    assert Fixed.made == 1
    assert [stage["validate"]["mean"] for stage in again.report["stages"]] == [1.0, 1.0]
    events = read_journal(folder / "journal.jsonl")
    assert [event["number"] for event in events if event["event"] == "stage_started"] == [1, 2]
    assert (folder / "2-fixed.1").is_dir() and (folder / "2-fixed").is_dir()
    with pytest.raises(UsageError, match=r"name one stage by its number, of 1 \(fixed\), 2 \(fixed\), or test"):
        run(spec, folder, restart_stage="fixed")
    replaced(spec, "Divide by two.", "Divide.")
    with pytest.raises(
        UsageError, match=r"`optimize.stages\[0\]` is changed, which is done before 2; say --restart-stage 1"
    ):
        run(spec, folder, restart_stage="2")


def test_the_settings_of_the_first_command_hold(write_spec, fixed, tmp_path: Path) -> None:  # noqa: F811
    spec, folder = write_spec(stages(*TWO)), tmp_path / "run"
    secret = {"lms.judge.api_key": "sk-secret", "optimize.stages": [{"fixed": {"words": "Look."}}]}
    first, _ = run(spec, folder, seed=7, overrides=secret, budget={"lm_calls": 4000})
    kept = (folder / "run.json").read_text()
    assert "sk-secret" not in kept
    with pytest.raises(
        UsageError, match=r"--set lms\.judge\.api_key=\.\.\., which is a secret and was not kept; give it again"
    ):
        run(spec, folder, resume=True)
    again, lm = run(spec, folder, resume=True, overrides={"lms.judge.api_key": "sk-secret"})
    assert lm.asked == [] and again.report["seed"] == 7
    assert [stage["stage"] for stage in again.report["stages"]] == [stage["stage"] for stage in first.report["stages"]]
    assert json.loads(kept)["settings"]["budget"] == {"lm_calls": 4000}


@pytest.mark.parametrize("text", ["", '{"version": 1, "prog', "[1]", '{"program": 3}', "\0\0"])
def test_a_torn_run_json_is_one_sentence(write_spec, fixed, tmp_path: Path, text: str) -> None:  # noqa: F811
    spec, folder = write_spec(stages(*TWO)), tmp_path / "run"
    run(spec, folder)
    (folder / "run.json").write_text(text)
    with pytest.raises(UsageError, match=r"run\.json cannot be read .*; begin anew with another name"):
        run(spec, folder, resume=True)


def test_a_run_of_an_earlier_version_is_refused(write_spec, fixed, tmp_path: Path) -> None:  # noqa: F811
    spec, folder = write_spec(stages(*TWO)), tmp_path / "run"
    run(spec, folder)
    (folder / "run.json").write_text(json.dumps({"program": "parity", "seed": 0, "digest": "0" * 64}))
    with pytest.raises(UsageError, match="begun by an earlier version of lmprog"):
        run(spec, folder, resume=True)


@pytest.mark.parametrize("name", ["metrics.py", "test.jsonl"])
def test_a_file_that_changes_while_a_run_is_at_work_ends_it(write_spec, fixed, tmp_path: Path, name: str) -> None:  # noqa: F811
    spec, folder = write_spec(stages(*TWO)), tmp_path / "run"
    path = spec.with_name(name)
    before, seen = path.read_text(), []

    def change(event: dict[str, Any]) -> None:
        if event["event"] == "stage_ended" and not seen:
            seen.append(event)
            path.write_text(before + "\n")

    with pytest.raises(UsageError, match=f"{name} has changed while this command was at work, so nothing more is kept"):
        run(spec, folder, listen=change)
    assert len([event for event in read_journal(folder / "journal.jsonl") if event["event"] == "stage_started"]) == 1
    path.write_text(before)
    resumed, _ = run(spec, folder, resume=True)
    assert resumed.report["test"] == run(spec, tmp_path / "anew")[0].report["test"]
