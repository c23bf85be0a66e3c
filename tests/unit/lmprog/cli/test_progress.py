"""What a person sees while a program is optimized."""

from __future__ import annotations

import pytest

from lmprog.cli.progress import OptimizeProgress, table
from lmprog.spending.budget import Spent


def test_a_trial_stands_beside_what_was_spent_by_then(capsys: pytest.CaptureFixture[str]) -> None:
    progress = OptimizeProgress()
    score = {"mean": 0.5, "ci95": [0.25, 0.75]}
    spent = Spent(12, 300, 20).as_json()
    progress.listen({"event": "spending", "spent": spent, "limits": {"lm_calls": 100}})
    progress.listen({"event": "trial", "number": 2, "of": 6, "score": score, "best": score, "demos": {"sort": 4}})
    shown = capsys.readouterr().err
    assert "trial 2/6    50.0% [25.0, 75.0]  best 50.0% [25.0, 75.0]  4 demos" in shown
    assert shown.rstrip().endswith("spent 12 calls, 320 tokens; left 88 calls")
    assert "\x1b" not in shown and shown.count("\n") == 1


def test_the_table_says_what_failed_and_what_outages_leave_in_doubt(capsys: pytest.CaptureFixture[str]) -> None:
    score = {"mean": 0.5, "ci95": [0.25, 0.75]}
    test = {"metric": "exact", "n": 55, "before": score, "after": score, "difference": {**score, "p": 0.5}}
    failed = {"outages": {"before": 0, "after": 5}, "failures": {"before": {}, "after": {"tool": 3, "unreadable": 1}}}
    failed["recovered"] = {"before": [], "after": []}
    accepted = {"choose": 30, "kept": 0, "tests": [], "verdict": "nothing is kept"}
    report = {"program": "desk", "overlay": "out.yaml", "before": score, "stages": [], "best_estimate": None}
    table(report | {"accepted": accepted, "test": {**test, **failed, "few_rows": None, "doubt": "so so"}})
    said = capsys.readouterr().out.splitlines()
    assert said[-5].startswith("gain on 55 test rows, paired: +50.0")
    assert said[-4:] == [
        "  after, failed and scored lowest: 3 tool, 1 unreadable",
        "  after, left out since an outage ended them: 5 rows",
        "  so so",
        "written: out.yaml",
    ]
