"""Measure `grpo: {staleness: 1}` against `staleness: 0`: the time of a training whose rollouts a server answers with latency.

    python benchmarks/staleness.py --latency 0.2 --steps 12 --rounds 3

The server is the stand-in of the tests, in this process, over a small real model that is trained here too. Both trainings take
the same examples, and run in turn, each as often; times are those of the steps, without scoring. The share that can be won
follows from the parts: a pipeline takes max(sampling, update) where the other takes their sum.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
lmprog: 1
name: letters
inputs: {text: str}
lms: {lm: {model: hosted_vllm/tiny, weights: hf/MODEL, api_base: "BASE", params: {max_tokens: 8, temperature: 0}}}
modules: {say: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: Say a}}
data: {train: rows.jsonl, dev: dev.jsonl}
metrics: {letters: {python: "./metrics.py:letters", with: {said: "${{ outputs.said }}"}}}
optimize:
  metric: letters
  accept: point
  tune: {say: [weights]}
  stages:
    - grpo: {steps: STEPS, examples: 8, rollouts: ROLLOUTS, learning_rate: 0.005, evaluate_every: 1000, no_signal: drop,
        probe: 0, staleness: STALENESS, lora: {rank: 4, alpha: 8}}
"""
METRICS = "def letters(said: str) -> float:\n    return said.count('a') / 8\n"


def train(staleness: int, latency: float, steps: int, rollouts: int) -> Mapping[str, Any]:
    """Train once in this process; return the seconds and the mean reward of each step, and the mean age of its rows."""
    import lmprog
    from lmprog.lms.local import weights
    from tests.functional.vllm_server import VllmServer
    from tests.tiny_model import write_tiny_model

    weights.fast_in_bfloat16 = lambda: False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_tiny_model(folder / "model")
        server = VllmServer(model)
        server.latency, server.max_loras = latency, 1 + staleness
        for file, count in (("rows.jsonl", 64), ("dev.jsonl", 4)):
            (folder / file).write_text("".join(json.dumps({"text": f"{file[0]}{n}"}) + "\n" for n in range(count)))
        (folder / "metrics.py").write_text(METRICS)
        text = PROGRAM.replace("MODEL", str(model)).replace("BASE", server.url).replace("STEPS", str(steps))
        text = text.replace("STALENESS", str(staleness)).replace("ROLLOUTS", str(rollouts))
        (folder / "program.yaml").write_text(text)
        lmprog.optimize(folder / "program.yaml", run_dir=folder / "run")
        server.close()
        lines = [json.loads(line) for line in (folder / "run" / "journal.jsonl").read_text().splitlines()]
    found = [line for line in lines if line["event"] == "step"]
    return {
        "seconds": [line["seconds"] for line in found],
        "reward": [line["reward"] for line in found],
        "rollout": [line["split"].get("rollout", 0.0) for line in found],
        "age": [line.get("age", 0.0) for line in found],
    }


def measure(latency: float, steps: int, rollouts: int, rounds: int) -> Mapping[str, Any]:
    """Return the median seconds of a step with staleness 0 and 1, over trainings in processes of their own, taken in turn."""
    seconds: dict[int, list[float]] = {0: [], 1: []}
    waits: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(rounds):
        for staleness in (0, 1):
            found = _in_process(["--one", str(staleness), "--latency", str(latency), "--steps", str(steps)], rollouts)
            # The first two steps read the model, and begin the pipeline.
            seconds[staleness] += found["seconds"][2:]
            waits[staleness] += found["rollout"][2:]
    medians = {staleness: statistics.median(values) for staleness, values in seconds.items()}
    return {
        "latency": latency,
        "step": medians,
        "waited for rollouts": {staleness: statistics.median(values) for staleness, values in waits.items()},
        "ratio": medians[1] / medians[0],
        "ratio of sums": sum(seconds[1]) / sum(seconds[0]),
    }


def _in_process(arguments: Sequence[str], rollouts: int) -> Mapping[str, Any]:
    command = [sys.executable, "-m", "benchmarks.staleness", *arguments, "--rollouts", str(rollouts)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure both as the command line says, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--latency", type=float, default=0.2, help="seconds that each reply takes beside the model's own"
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rollouts", type=int, default=8, help="of each of 8 examples")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, choices=(0, 1), help="train once with this staleness, in this process")
    chosen = parser.parse_args()
    if chosen.one is not None:
        print(json.dumps(train(chosen.one, chosen.latency, chosen.steps, chosen.rollouts)))
    else:
        print(json.dumps(measure(chosen.latency, chosen.steps, chosen.rollouts, chosen.rounds)))


if __name__ == "__main__":
    main()
