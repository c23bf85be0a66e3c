"""An optimization that is killed at any moment goes on: the same overlay, and nothing that was answered is paid for again.

LMPROG_KILLS=20 kills each optimizer that often.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.functional.adding import CONCURRENCY

pytestmark = pytest.mark.kill

KILLS = int(os.environ.get("LMPROG_KILLS", "3"))
COMMAND = [sys.executable, "-c", "from lmprog.cli.main import main; main()", "optimize"]
STAGES = {
    "bootstrap": "bootstrap: {sets: 8, demos: 3, rows: 12}",
    "prompt_search": "prompt_search: {trials: 10, proposals: 4, demos: [2, 3], demo_sets: 4, bootstrap_rows: 12}",
    "gepa": "gepa: {max_metric_calls: 220, minibatch: 4, merges: 3}",
}
BUDGETS: dict[str, list[str]] = {"unlimited": [], "cut by its budget": ["--budget", "lm_calls=230"]}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_optimization_ends_as_one_that_never_was(
    stage: str, budget: str, sums: Callable[[str], Path], provider, tmp_path: Path
) -> None:
    spec, more = sums(STAGES[stage]), BUDGETS[budget]
    whole = tmp_path / "whole.yaml"
    subprocess.run([*COMMAND, str(spec), "--run-dir", str(tmp_path / "whole"), "-o", str(whole), *more], check=True)
    asked = len(provider.requests)
    killed, run_dir = tmp_path / "killed.yaml", tmp_path / "killed"
    command = [*COMMAND, str(spec), "--run-dir", str(run_dir), "-o", str(killed), *more]
    moments, kills = random.Random(f"{stage} {budget}"), 0
    while True:
        resumed = [*command, "--resume"] if (run_dir / "run.json").exists() else command
        running = subprocess.Popen(resumed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kills == KILLS:
            assert running.wait() == 0
            break
        # The moment counts in requests, since a start takes longer than all that is asked after it.
        after = len(provider.requests) + moments.randrange(1, max(2, 3 * asked // (2 * KILLS + 2)))
        while running.poll() is None and len(provider.requests) < after:
            time.sleep(0.001)
        if running.poll() is not None:
            assert running.returncode == 0
            break
        time.sleep(moments.uniform(0, 0.02))
        running.send_signal(signal.SIGKILL)
        running.wait()
        kills += 1
    assert kills == KILLS, "it came to its end before the last kill"
    assert killed.read_text().replace(str(run_dir), str(tmp_path / "whole")) == whole.read_text()
    assert more or "instructions:" in whole.read_text() or "demos:" in whole.read_text()
    # Of each of the two LMs so many are in flight when it is killed, or when the budget is spent.
    again = len(provider.requests) - 2 * asked
    assert again <= 2 * CONCURRENCY * (kills + 1), f"{again} requests more than a run that was not killed"
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "killed")]
    assert spent(reports[1]) == spent(reports[0])
    if more:
        assert spent(reports[0])["lm_calls"] <= 230


def spent(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report["spent"].items() if name != "seconds"}
