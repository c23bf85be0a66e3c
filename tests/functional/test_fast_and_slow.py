"""`lmprog optimize` with `fast_slow` on a small model of random weights: a program of two modules with words to choose."""

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

pytest.importorskip("trl", reason="needs the extra 'local'")

pytestmark = pytest.mark.model

KILLS = int(os.environ.get("LMPROG_KILLS", "1"))
COMMAND = [sys.executable, "-c", "from lmprog.cli.main import main; main()", "optimize"]
STEPS, EVERY = 8, 4
PROGRAM = """
lmprog: 1
name: letters
inputs: {text: str}
outputs: {first: "${{ steps.first.said }}", second: "${{ steps.second.said }}"}
lms:
  one: {model: hf/MODEL, params: {max_tokens: 4}}
modules:
  first: {lm: one, inputs: {text: str}, outputs: {said: str}, instructions: Say what it may be}
  second: {lm: one, inputs: {text: str}, outputs: {said: str}, instructions: Say it all once more}
steps:
  first: {module: first, with: {text: "${{ inputs.text }}"}}
  second: {module: second, with: {text: "${{ steps.first.said }}"}}
data: {train: rows.jsonl, dev: dev.jsonl}
metrics:
  letters:
    python: ./metrics.py:letters
    with: {first: "${{ outputs.first }}", second: "${{ outputs.second }}"}
optimize:
  metric: letters
  accept: point
  tune: {first: [instructions, weights], second: [instructions, demos, weights]}
  instructions: {first: [Write the letter a, Name it and be brief], second: [Write the letter b, Name it at its best]}
  stages:
    - fast_slow:
        steps: STEPS
        every: EVERY
        population: 3
        trials: 4
        rows: 8
        demos: [2]
        demo_sets: 2
        examples: 4
        rollouts: 8
        learning_rate: 0.02
        baseline: rollout
        evaluate_every: 4
        checkpoint_every: 2
        lora: {rank: 4, alpha: 8}
"""
METRICS = """
def letters(first: str, second: str) -> float:
    return (first.count("a") + second.count("b")) / 8
"""


@pytest.fixture
def letters(tiny_model, write) -> Callable[..., Path]:
    """Writes a program that is to say a lot of a, and then of b."""

    def make(*replaced: tuple[str, str]) -> Path:
        write(METRICS, "metrics.py")
        for name, count in (("rows.jsonl", 8), ("dev.jsonl", 24)):
            write("".join(json.dumps({"text": f"{name[0]}{n}"}) + "\n" for n in range(count)), name)
        text = PROGRAM
        for old, new in (*replaced, ("MODEL", str(tiny_model())), ("STEPS", str(STEPS)), ("EVERY", str(EVERY))):
            assert old in text
            text = text.replace(old, new)
        return write(text)

    return make


def events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def of_kind(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    return [event for event in events(folder) if event["event"] in kinds]


@pytest.fixture
def optimized(cli, letters, monkeypatch) -> Callable[..., dict[str, Any]]:
    """Optimizes the program in this process, on a model that is loaded anew; gives the report."""

    def run(spec: Path, folder: Path, *more: str) -> dict[str, Any]:
        from lmprog.lms import local

        monkeypatch.setattr(local, "_loaded", {})
        out = folder.with_suffix(".yaml")
        status, said, err = cli("optimize", spec, "--run-dir", folder, "-o", out, "--format", "json", *more)
        assert status == 0, err
        return json.loads(said)

    return run


def test_weights_and_prompts_are_tuned_together(cli, letters, optimized, monkeypatch, tmp_path: Path) -> None:
    import yaml

    from lmprog.lms.local.wave import HeadCache

    read: list[tuple[Any, ...]] = []
    get = HeadCache.get

    def getting(self: HeadCache, model: Any, weights: Any, head: tuple[int, ...]) -> Any:
        if (weights, head) not in self._kept:
            read.append((weights, head))
        return get(self, model, weights, head)

    monkeypatch.setattr(HeadCache, "get", getting)
    spec, run = letters(), tmp_path / "whole"
    report = optimized(spec, run)
    overlay = yaml.safe_load(run.with_suffix(".yaml").read_text())
    assert "adapter" in overlay["lms"]["one"]
    words = {id: module["instructions"] for id, module in overlay["modules"].items() if "instructions" in module}
    listed = yaml.safe_load(spec.read_text())["optimize"]["instructions"]
    assert all(text in listed[id] for id, text in words.items())
    assert report["stages"][0]["validate"]["mean"] > 0.05 and report["stages"][0]["steps"] == STEPS
    rounds = of_kind(run, "round")
    assert [event["step"] for event in rounds] == [0, EVERY]
    assert all(1 <= len(event["members"]) <= 3 and event["tried"] == 4 for event in rounds)
    for event in of_kind(run, "step"):
        members = rounds[(event["step"] - 1) // EVERY]["members"]
        assert event["prompts"].keys() == set(members)
        assert sum(of["rollouts"] for of in event["prompts"].values()) == 8 * event["examples"]
    # The best step is compared on all rows that choose.
    (compared,) = of_kind(run, "compared")
    (before,) = (dict(event["value"]) for event in events(run) if event.get("key") == "1-fast_slow/before")
    after = dict(json.loads((run / "1-fast_slow/checkpoint.json").read_text())["best"][1])
    assert before.keys() == after.keys() == set(range(24))
    gains = [after[row] - before[row] for row in range(24)]
    assert compared["difference"]["mean"] == pytest.approx(sum(gains) / 24)
    # The heads of all members stay in the cache for as long as the weights are the same.
    assert read and len(read) == len(set(read))
    status, out, _ = cli("candidates", run)
    assert status == 0 and out.count("<- chosen") == 1 and out.count("of 8 rows") >= 5
    status, out, _ = cli("optimize", spec, "--dry-run", "--format", "json")
    assert status == 0
    assert json.loads(out)["most_lm_calls"]["fast_slow"] >= report["stages"][0]["lm_calls"]
    killed_and_resumed(spec, run, optimized)


def killed_and_resumed(spec: Path, whole: Path, optimized: Callable[..., Any]) -> None:
    """Whatever the moment of the kill, the run ends as `whole`. LMPROG_KILLS=20 kills it that often."""
    lines, moments, kills, runs = len(events(whole)), random.Random(7), 0, 0
    while kills < KILLS:
        killed = whole.with_name(f"killed-{runs}")
        runs += 1
        for _ in range(min(3, KILLS - kills)):
            # The moment counts in lines of the journal, since a start takes longer than all of them.
            before = len(events(killed))
            after = moments.randrange(min(before + 2, lines - 2), lines - 1)
            more = ["--resume"] if (killed / "run.json").exists() else []
            command = [*COMMAND, spec, "--run-dir", killed, "-o", killed.with_suffix(".yaml"), *more]
            running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while running.poll() is None and len(events(killed)) < after:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.2))
            running.send_signal(signal.SIGKILL)
            running.wait()
            if events(killed)[-1]["event"] == "run_ended":
                break
            kills += 1
        optimized(spec, killed, "--resume")
        same(whole, killed)


def same(whole: Path, killed: Path) -> None:
    """The weights after the last step, the best adapter, the words, what was spent and what is told."""
    adapters = [str(path.relative_to(whole)) for path in whole.glob("1-fast_slow/adapters-*/*/*.safetensors")]
    for file in (f"1-fast_slow/trainer/checkpoint-{STEPS}/trained.safetensors", *adapters):
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), file
    overlays = [folder.with_suffix(".yaml").read_text() for folder in (whole, killed)]
    assert overlays[1].replace(killed.name, whole.name) == overlays[0]
    reports = [json.loads((folder / "report.json").read_text()) for folder in (whole, killed)]
    for report in reports:
        del report["spent"]["seconds"]
    assert reports[1]["spent"] == reports[0]["spent"]
    told = [
        [
            {name: value for name, value in event.items() if name not in ("line", "seconds", "split", "memory")}
            for event in of_kind(folder, "round", "step", "dev")
        ]
        for folder in (whole, killed)
    ]
    assert told[1] == told[0]
