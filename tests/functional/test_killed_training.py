"""A stage of weights that is killed at any moment goes on from its last whole step: the same adapter, bit for bit.

LMPROG_KILLS=20 kills it that often.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

pytestmark = [pytest.mark.kill, pytest.mark.model]

KILLS = int(os.environ.get("LMPROG_KILLS", "2"))
COMMAND = [sys.executable, "-c", "from lmprog.cli.main import main; main()", "optimize"]
STEPS = 6
SPEC = """
    lmprog: 1
    name: vowels
    inputs: {topic: str}
    outputs: {line: "${{ steps.write.line }}"}
    lms:
      student: {model: embedded/smollm2-135m, params: {max_tokens: 6}}
    modules:
      write: {lm: student, inputs: {topic: str}, outputs: {line: str}, instructions: Write about the topic.}
    steps:
      write: {module: write, with: {topic: "${{ inputs.topic }}"}}
    data: {train: train.jsonl, dev: dev.jsonl}
    metrics:
      vowels:
        python: ./metrics.py:vowels
        with: {line: "${{ outputs.line }}"}
    optimize:
      metric: vowels
      accept: point
      train: train
      validate: dev
      tune: {write: [weights]}
      stages: [grpo]
"""
ALL = {"steps": STEPS, "evaluate_every": 3, "learning_rate": 2e-3, "schedule": "linear"}
STAGES = {
    "grpo": {**ALL, "examples": 2, "rollouts": 4, "baseline": "module_ema", "updates": 2},
    "sft": {**ALL, "samples": 4, "batch": 2},
}


@pytest.fixture
def vowels(write, tmp_path: Path) -> Path:
    for split, topics in (("train", "sea sky bread snow"), ("dev", "rain milk wool iron")):
        (tmp_path / f"{split}.jsonl").write_text("".join(f'{{"topic": "{topic}"}}\n' for topic in topics.split()))
    (tmp_path / "metrics.py").write_text(
        "def vowels(line: str) -> float:\n    return sum(letter in 'aeiou' for letter in line) / max(1, len(line))\n"
    )
    return write(SPEC)


def start(stage: str, spec: Path, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    stages = f"optimize.stages={json.dumps([{stage: STAGES[stage]}])}"
    command = [
        *COMMAND,
        str(spec),
        "--set",
        stages,
        "--run-dir",
        str(folder),
        "-o",
        str(folder.with_suffix(".yaml")),
        *more,
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.timeout(600 + 60 * KILLS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_training_ends_as_one_that_never_was(vowels: Path, tmp_path: Path, stage: str) -> None:
    whole = tmp_path / "whole"
    running = start(stage, vowels, whole)
    while running.poll() is None and not (whole / f"1-{stage}").exists():
        time.sleep(0.01)
    started = time.monotonic()
    assert running.wait() == 0
    lasted = time.monotonic() - started
    moments, kills, runs = random.Random(6), 0, 0
    while kills < KILLS:
        killed = tmp_path / f"killed-{runs}"
        runs += 1
        # As many kills in one run as leave it some steps; then it runs to its end and is compared.
        for _ in range(min(3, KILLS - kills)):
            before = len(events(killed))
            done = max((event["step"] for event in steps(killed)), default=0)
            after = moments.randrange(min(done, STEPS - 1), STEPS)
            running = start(stage, vowels, killed, *(["--resume"] if (killed / "run.json").exists() else []))
            # The moment counts in steps, since a start takes longer than many of them.
            while running.poll() is None and not (
                len(told := events(killed)) > before and max(event.get("step", 0) for event in told) >= after
            ):
                time.sleep(0.01)
            time.sleep(moments.uniform(0, lasted / STEPS))
            running.send_signal(signal.SIGKILL)
            running.wait()
            if events(killed)[-1]["event"] == "run_ended":
                break
            kills += 1
        assert start(stage, vowels, killed, "--resume").wait() == 0
        same(stage, whole, killed)


def same(stage: str, whole: Path, killed: Path) -> None:
    """The weights after the last step, the best adapter, what was chosen, what was spent and what is told."""
    trained = f"1-{stage}/trainer/checkpoint-{STEPS}/trained.safetensors"
    adapters = [
        str(path.relative_to(whole)) for path in whole.glob(f"1-{stage}/adapters-*/*/adapter_model.safetensors")
    ]
    assert len(adapters) == 1
    for file in (trained, *adapters):
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), file
    overlays = [folder.with_suffix(".yaml").read_text() for folder in (whole, killed)]
    assert overlays[1].replace(killed.name, whole.name) == overlays[0]
    reports = [json.loads((folder / "report.json").read_text()) for folder in (whole, killed)]
    for report in reports:
        del report["spent"]["seconds"]
    assert reports[1]["spent"] == reports[0]["spent"]
    assert [figures(event) for event in steps(killed)] == [figures(event) for event in steps(whole)]
    assert [event["step"] for event in steps(whole) if event["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert [event["step"] for event in steps(whole) if event["event"] == "dev"] == [0, 3, 6]


def events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def steps(folder: Path) -> list[dict[str, Any]]:
    return [event for event in events(folder) if event["event"] in ("step", "dev")]


def figures(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in ("line", "seconds", "split", "memory")}
