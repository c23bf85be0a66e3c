"""benchmarks/paper.py from the rows to the page, on a small model of random weights: cut in the middle, and gone on with."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import paper
import paper_tasks
from ledger import Ledger
from paper_page import write_page
from paper_runs import Measured
from paper_tasks import QUICK, RUNS

pytestmark = pytest.mark.model

PROGRAM = """
lmprog: 1
name: papillon
inputs: {user_query: {type: str, private: true}}
outputs: {said: "${{ steps.say.said }}"}
lms:
  one: {model: hf/MODEL, params: {max_tokens: 4}}
modules:
  say: {lm: one, inputs: {user_query: str}, outputs: {said: str}, instructions: Say it}
steps:
  say: {module: say, with: {user_query: "${{ inputs.user_query }}"}}
data:
  train: {hf: none, split: train, private: [pii_units]}
  dev: {hf: none, split: train, private: [pii_units]}
  test: {hf: none, split: train, private: [pii_units]}
metrics:
  letters: {python: "./metrics.py:letters", with: {said: "${{ outputs.said }}"}}
optimize:
  metric: letters
  accept: point    # with ten dev rows nothing can be confirmed
  tune: {say: [instructions, weights]}
  instructions: {say: [Write the letter a]}
  stages:
    - prompt_search: {trials: 8}
    - grpo: {steps: 60, learning_rate: 0.02, lora: {rank: 4, alpha: 8}}
"""
METRICS = """
def letters(said: str) -> float:
    return said.count("a") / 8
"""


@pytest.fixture
def start(tiny_model, write, tmp_path: Path, monkeypatch) -> Callable[..., tuple[int, Ledger[Measured]]]:
    """Runs the benchmark on a task of this name of its own; gives how many runs failed, and the ledger."""
    monkeypatch.setattr(paper_tasks, "SPECS", tmp_path / "specs")
    write(PROGRAM.replace("MODEL", str(tiny_model())), "specs/papillon.yaml")
    write(METRICS, "specs/metrics.py")
    for name in ("train", "dev", "test"):
        rows = ({"user_query": f"{name} {number}", "pii_units": []} for number in range(60))
        write("".join(json.dumps(row) + "\n" for row in rows), f"data/pupa/{name}.jsonl")

    def run(*runs: str) -> tuple[int, Ledger[Measured]]:
        ledger = Ledger(tmp_path / "results.jsonl", Measured.from_json)
        options = argparse.Namespace(
            seeds=1, tasks=["papillon"], runs=runs, data=tmp_path / "data", student=paper_tasks.SMALL
        )
        return paper.measure(options, QUICK, ledger, tmp_path / "work"), ledger

    return run


def test_a_run_that_was_cut_goes_on_and_a_finished_one_is_kept(start, tmp_path: Path, monkeypatch, capsys) -> None:
    listen = paper.Curve.listen

    def cut(self: Any, event: dict[str, Any]) -> None:
        listen(self, event)
        if event["event"] == "step":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(paper.Curve, "listen", cut)
        with pytest.raises(KeyboardInterrupt):
            start("search-grpo")
    assert Ledger(tmp_path / "results.jsonl", Measured.from_json).read() == []
    failed, ledger = start("search-grpo", "fast-slow")
    assert failed == 0 and "prompt_search was finished before; kept" in capsys.readouterr().err
    first, second = ledger.read()
    assert [version.cell for version in first.versions] == list(RUNS["search-grpo"])
    assert [len(version.scores) for version in first.versions] == [4, 4, 4]
    # What is tuned scores as well where it is loaded anew; two examples, four rollouts and two steps, or one with fast_slow.
    assert first.again == pytest.approx(first.versions[-1].mean)
    assert first.versions[-1].rollouts >= 16 and second.versions[-1].rollouts >= 8
    assert 0 == first.versions[0].calls < first.versions[1].calls < first.versions[2].calls
    assert len(first.curve) == 3 and first.versions[1].calls < first.curve[-1][0] <= first.versions[2].calls
    write_page(tmp_path / "page.md", paper.wanted(ledger, QUICK), QUICK)
    assert "| SmolLM2-135M | papillon | search-grpo | 0 |" in (tmp_path / "page.md").read_text()
    before = ledger.path.read_bytes()
    failed, ledger = start("search-grpo", "fast-slow")
    assert failed == 0 and ledger.path.read_bytes() == before
    assert capsys.readouterr().out.count("(in the ledger)") == 2


def test_a_run_that_fails_is_told_and_others_go_on(start, tmp_path: Path, capsys) -> None:
    (tmp_path / "specs" / "papillon.yaml").unlink()
    failed, ledger = start("search-grpo", "trajectory")
    assert failed == 2 and ledger.read() == []
    assert "there is no specs/papillon.yaml" in capsys.readouterr().err
