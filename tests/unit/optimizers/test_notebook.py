"""The bar that a notebook shows of an optimization: its stage, trial or step, best score, and what was spent."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

import lmprog
from lmprog.optimizers.notebook import OptimizationBar
from lmprog.spending.budget import Spent
from tests.unit.optimizers.staged.test_staged import Watched

LOW, HIGH = {"mean": 0.5, "ci95": [0.25, 0.75]}, {"mean": 0.75, "ci95": [0.5, 0.9]}
SPENT = {"event": "spending", "spent": Spent(12, 300, 20).as_json(), "limits": {"lm_calls": 100}}
STARTED = {"event": "stage_started", "number": 2, "of": 3, "name": "grpo"}
STEP = {"event": "step", "step": 4, "of": 10, "reward": 0.25}


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        ([STARTED], "desk, stage 2 of 3: grpo"),
        (
            [STARTED, SPENT, {"event": "trial", "number": 2, "of": 6, "score": LOW, "best": HIGH, "demos": {}}],
            'desk, stage 2 of 3: grpo <progress value="2" max="6"></progress> 2 of 6 '
            "trials; best 75.0% [50.0, 90.0]; spent 12 calls, 320 tokens; left 88 calls",
        ),
        (
            [STARTED, *({"event": "dev", "step": 0, "score": score} for score in (LOW, HIGH, LOW)), STEP],
            'desk, stage 2 of 3: grpo <progress value="4" max="10"></progress> 4 of 10 '
            "steps, reward 0.250; best 75.0% [50.0, 90.0]",
        ),
        ([STARTED, {"event": "step", "step": 1}], "desk, stage 2 of 3: grpo steps"),
        ([STARTED, {"event": "step", "step": 1, "of": None, "reward": "good"}], "desk, stage 2 of 3: grpo steps"),
        (
            [STARTED, STEP, {"event": "confirming", "rows": 48}, {"event": "note", "text": "a"}],
            "desk, scoring on 48 dev rows that confirm",
        ),
    ],
)
def test_what_the_bar_shows(kernel: Any, events: list[dict[str, Any]], shown: str) -> None:
    bar = OptimizationBar()
    for event in ({"event": "run_started", "program": "desk"}, *events):
        bar(event)
    assert kernel.shown[-1] == shown


def test_an_optimization_in_a_notebook_has_a_bar(write_spec, kernel: Any, tmp_path) -> None:
    lm, seen = Watched(), []
    path = tmp_path / "<b>.yaml"
    lmprog.optimize(
        write_spec(), lms={"judge": lm, "writer": lm}, run_dir=tmp_path / "run", out=path, listen=seen.append
    )
    shown = [text for text in kernel.shown if text.startswith("parity, ")]
    trials = [event["number"] for event in seen if event["event"] == "trial"]
    drawn = [text for text in shown if "trials; best" in text]
    assert all(any(f"{number} of 6 trials; best " in text for text in drawn) for number in trials) and len(trials) > 2
    assert "stage 1 of 1: prompt_search" in drawn[-1] and "; spent " in drawn[-1]
    assert "sealed test rows" in " ".join(shown) and "&lt;b&gt;.yaml" in shown[-1] and "<b>" not in shown[-1]


def test_nothing_is_shown_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(display=pytest.fail)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    monkeypatch.setitem(sys.modules, "IPython.display", terminal)
    OptimizationBar()({"event": "run_started", "program": "desk"})
