"""What a person sees while a program is optimized."""

from __future__ import annotations

import pytest

from lmprog.budget import Spent
from lmprog.cli.progress import OptimizeProgress, spending


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "spent 350 calls, 41,200 tokens, $0.0213"),
        ({"lm_calls": 500}, "spent 350 calls, 41,200 tokens, $0.0213; left 150 calls"),
        (
            {"usd": 1, "tokens": 2e6, "minutes": 3},
            "spent 350 calls, 41,200 tokens, $0.0213; left $0.9787, 1,959k tokens, 2.0 minutes",
        ),
        ({"lm_calls": 340}, "spent 350 calls, 41,200 tokens, $0.0213; left 0 calls"),
    ],
)
def test_spending_and_what_is_left_of_each_limit(limits: dict, said: str) -> None:
    assert spending(Spent(350, 41_000, 200, 0.0213, 60.0), limits) == said


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
