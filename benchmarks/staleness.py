"""Measure `grpo: {staleness: 1}` against `staleness: 0`: the time of a training whose rollouts a server answers with latency.

    python benchmarks/staleness.py --latency 0.2 --steps 12 --rounds 3

The server is the stand-in of the tests, in a process of its own, over a small real model that is trained here too; the program
asks it twice in turn. Both trainings take the same examples, and run in turn, each as often; times are those of the steps,
without scoring. What can be won follows from the parts: a pipeline takes max(sampling, update) where the other takes their sum.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
lmprog: 1
name: letters
inputs: {text: str}
lms: {lm: {model: hosted_vllm/tiny, weights: hf/MODEL, api_base: "BASE", params: {max_tokens: 8, temperature: 0}}}
outputs: {said: "${{ steps.second.said }}"}
modules:
  say: {inputs: {text: str}, outputs: {said: str}, instructions: Say a}
  again: {inputs: {text: str}, outputs: {said: str}, instructions: Say a}
steps:
  first: {module: say, with: {text: "${{ inputs.text }}"}}
  second: {module: again, with: {text: "${{ steps.first.said }}"}}
data: {train: rows.jsonl, dev: dev.jsonl}
metrics: {letters: {python: "./metrics.py:letters", with: {said: "${{ outputs.said }}"}}}
optimize:
  metric: letters
  accept: point
  tune: {say: [weights], again: [weights]}
  stages:
    - grpo: {steps: STEPS, examples: 8, rollouts: ROLLOUTS, learning_rate: 0.005, evaluate_every: 1000, no_signal: drop,
        probe: 0, staleness: STALENESS, lora: {rank: 4, alpha: 8}}
"""
METRICS = "def letters(said: str) -> float:\n    return sum(character < 'n' for character in said[:8]) / 8\n"


def train(staleness: int, latency: float, steps: int, rollouts: int) -> Mapping[str, Any]:
    """Train once in this process; return the seconds and the mean reward of each step, and the mean age of its rows."""
    import lmprog
    from lmprog.lms.local import weights
    from tests.tiny_model import write_tiny_model

    weights.fast_in_bfloat16 = lambda: False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_tiny_model(folder / "model")
        command = [sys.executable, "-m", "benchmarks.staleness", "--serve", str(model), "--latency", str(latency)]
        server = subprocess.Popen([*command, "--one", str(staleness)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        for file, count in (("rows.jsonl", 64), ("dev.jsonl", 4)):
            (folder / file).write_text("".join(json.dumps({"text": f"{file[0]}{n}"}) + "\n" for n in range(count)))
        (folder / "metrics.py").write_text(METRICS)
        text = PROGRAM.replace("MODEL", str(model)).replace("BASE", url).replace("STEPS", str(steps))
        text = text.replace("STALENESS", str(staleness)).replace("ROLLOUTS", str(rollouts))
        (folder / "program.yaml").write_text(text)
        try:
            lmprog.optimize(folder / "program.yaml", run_dir=folder / "run")
        finally:
            server.kill()
        lines = [json.loads(line) for line in (folder / "run" / "journal.jsonl").read_text().splitlines()]
    found = [line for line in lines if line["event"] == "step"]
    return {
        "seconds": [line["seconds"] for line in found],
        "reward": [line["reward"] for line in found],
        "rollout": [line["split"].get("rollout", 0.0) for line in found],
        "age": [line.get("age", 0.0) for line in found],
    }


def serve(model: Path, latency: float, places: int) -> None:
    """Serve a model until this process is killed; the first line of standard output is the address."""
    from lmprog.lms.local import weights
    from tests.functional.vllm_server import VllmServer

    weights.fast_in_bfloat16 = lambda: False
    server = VllmServer(model)
    server.latency, server.max_loras = latency, places
    print(server.url, flush=True)
    threading.Event().wait()


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
    parser.add_argument("--serve", type=Path, metavar="MODEL", help="be the server, with 1 + ONE places for adapters")
    chosen = parser.parse_args()
    if chosen.serve is not None:
        serve(chosen.serve, chosen.latency, 1 + chosen.one)
    elif chosen.one is not None:
        print(json.dumps(train(chosen.one, chosen.latency, chosen.steps, chosen.rollouts)))
    else:
        print(json.dumps(measure(chosen.latency, chosen.steps, chosen.rollouts, chosen.rounds)))


if __name__ == "__main__":
    main()
