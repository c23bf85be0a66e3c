"""With a proposer that writes good, bad and check-breaking instructions in turn, the good ones win and the budget holds."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.functional.adding import BAD, BREAKING, GOOD, answer, proposed

pytestmark = pytest.mark.slow

STAGES = {
    "prompt_search": "prompt_search: {trials: 16, proposals: 8, demos: [2], demo_sets: 2, bootstrap_rows: 8}",
    "gepa": "gepa: {max_metric_calls: 300, minibatch: 4}",
}
BUDGET = 1200


@pytest.mark.parametrize("stage", STAGES)
def test_the_good_proposal_wins_and_the_breaking_one_is_never_run(
    stage: str, sums, provider, cli, tmp_path: Path
) -> None:
    turns = itertools.cycle([BAD[0], BREAKING, GOOD, BAD[1]])

    def script(body: dict[str, Any]) -> str:
        return proposed(next(turns)) if body["model"] == "writer" else answer(body)

    provider.answer = script
    out, run_dir = tmp_path / "tuned.yaml", tmp_path / "run"
    spec = sums(STAGES[stage], tune="add: [instructions]")
    status, dry, _ = cli("optimize", spec, "--dry-run", "--format", "json")
    assert status == 0 and not provider.requests
    bounds = dict(json.loads(dry)["most_lm_calls"])
    status, printed, err = cli(
        "optimize", spec, "-o", out, "--run-dir", run_dir, "--budget", f"lm_calls={BUDGET}", "--format", "json"
    )
    assert status == 0, err
    assert yaml.safe_load(out.read_text())["modules"]["add"]["instructions"].count(GOOD) == 1
    events = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    refused = [event["findings"] for event in events if event["event"] == "refused"]
    assert refused and all("LMP501" in finding for finding in refused)
    assert not any(
        BREAKING[:200] in body["messages"][0]["content"] for body in provider.requests if body["model"] != "writer"
    )
    report = json.loads(printed)
    assert report["spent"]["lm_calls"] <= min(BUDGET, bounds[stage])
    assert len(provider.requests) <= sum(bounds.values())
    assert report["test"]["difference"]["ci95"][0] > 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_spent_budget_ends_the_search_with_its_best_so_far(stage: str, sums, provider, cli, tmp_path: Path) -> None:
    out = tmp_path / "tuned.yaml"
    status, printed, err = cli(
        "optimize", sums(STAGES[stage]), "-o", out, "--run-dir", tmp_path / "run", "--budget", "lm_calls=150",
        "--format", "json",
    )  # fmt: skip
    assert status == 0, err
    assert json.loads(printed)["spent"]["lm_calls"] <= 150
    assert "the budget of 150 lm calls is spent" in err
    assert out.is_file()
