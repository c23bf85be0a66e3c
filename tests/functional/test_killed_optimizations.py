"""An optimization that is killed at any moment goes on: the same overlay, and nothing that was answered is paid for again.

LMPROG_KILLS=20 kills each optimizer that often.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("LMPROG_KILLS", "3"))
COMMAND = [sys.executable, "-c", "from lmprog.cli.main import main; main()", "optimize"]
CONCURRENCY = 4
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
        after = len(provider.requests) + moments.randrange(1, 2 * asked // (KILLS + 1))
        while running.poll() is None and len(provider.requests) < after:
            time.sleep(0.001)
        if running.poll() is not None:
            assert running.returncode == 0
            break
        time.sleep(moments.uniform(0, 0.02))
        running.send_signal(signal.SIGKILL)
        running.wait()
        kills += 1
    assert kills >= KILLS - 1
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


@pytest.fixture
def sums(write, provider, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a program of two modules whose student adds well only when its prompt says so, or shows how."""
    provider.script = answer
    served = f'api_base: "{provider.url}", api_key: none, context: 8000, limits: {{concurrency: {CONCURRENCY}}}'
    rng = random.Random(5)
    for split, count in (("train", 24), ("dev", 32), ("test", 16)):
        rows = [{"a": rng.randrange(100), "b": rng.randrange(100)} for _ in range(count)]
        lines = [json.dumps({**row, "sum": row["a"] + row["b"]}) + "\n" for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    (tmp_path / "metrics.py").write_text("def same(found: int, wanted: int) -> bool:\n    return found == wanted\n")

    def make(stage: str) -> Path:
        return write(f"""
            lmprog: 1
            name: sums
            inputs: {{a: int, b: int}}
            outputs: {{sum: "${{{{ steps.add.sum }}}}"}}
            lms:
              planner: {{model: openai/planner, params: {{max_tokens: 40}}, {served}}}
              adder: {{model: openai/adder, params: {{max_tokens: 40}}, {served}}}
              writer: {{model: openai/writer, params: {{max_tokens: 200}}, {served}}}
            modules:
              plan: {{lm: planner, inputs: {{a: int, b: int}}, outputs: {{way: str}}, instructions: Say how.}}
              add:
                lm: adder
                inputs: {{a: int, b: int, way: str}}
                outputs: {{sum: int}}
                instructions: Say something.
            steps:
              plan: {{module: plan, with: {{a: "${{{{ inputs.a }}}}", b: "${{{{ inputs.b }}}}"}}}}
              add:
                module: add
                with: {{a: "${{{{ inputs.a }}}}", b: "${{{{ inputs.b }}}}", way: "${{{{ steps.plan.way }}}}"}}
            data: {{train: train.jsonl, dev: dev.jsonl, test: test.jsonl}}
            metrics:
              accuracy:
                python: ./metrics.py:same
                with: {{found: "${{{{ outputs.sum }}}}", wanted: "${{{{ row.sum }}}}"}}
            optimize:
              metric: accuracy
              train: train
              validate: dev
              proposer: writer
              tune: {{plan: [instructions, demos], add: [instructions, demos]}}
              stages:
                - {stage}
        """)

    return make


def answer(body: dict[str, Any]) -> str:
    """What both LMs say: the same for the same request, so that a run can be compared with another."""
    said = json.dumps(body["messages"])
    chance = random.Random(said + str(body.get("seed")))
    if body["model"] == "writer":
        return f"```\n<instructions>{chance.choice(PROPOSALS)}</instructions>\n```"
    if body["model"] == "planner":
        return "count on" if "both" not in said else "add both"
    numbers = re.findall(r"\d+", body["messages"][-1]["content"])
    total = int(numbers[0]) + int(numbers[1])
    knows = 0.1 + 0.3 * ("add both" in said.lower()) + 0.2 * min(3, len(body["messages"]) // 2)
    return str(total if chance.random() < knows else total + 1)


PROPOSALS = [
    "Add both numbers, carefully.",
    "Take the larger number.",
    "Use {{ nothing_of_the_kind }} for the sum.",
    "Write a poem about numbers.",
    "First look at the tens, then add both.",
]
