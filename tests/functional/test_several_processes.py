"""`lmprog optimize` in two processes, started by torchrun: one result, said and written once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.test_killed_training import COMMAND, steps, vowels
from tests.ports import reserved

pytestmark = pytest.mark.slow

__all__ = ["vowels"]
TORCHRUN = Path(sys.executable).with_name("torchrun")
STAGES = {
    "grpo": "{steps: 2, examples: 2, rollouts: 4, evaluate_every: 2}",
    "sft": "{steps: 2, samples: 4, batch: 4, evaluate_every: 2}",
}


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_train_one_adapter(vowels: Path, tmp_path: Path, stage: str) -> None:
    def train(name: str, *launcher: str | Path) -> tuple[str, str]:
        stages = f"optimize.stages=[{{{stage}: {STAGES[stage]}}}]"
        options = ["--set", stages, "--run-dir", tmp_path / name, "-o", tmp_path / f"{name}.yaml", "--format", "json"]
        # Torchrun gives each process one thread; the sums of bf16, and so the replies, follow from the number of threads.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*launcher, *COMMAND, vowels, *options], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    out, err = train("two", TORCHRUN, "--standalone", "--nproc-per-node=2", "--no-python")
    report = json.loads(out)
    assert err.count("step 1/2") == 1
    assert report["stages"][0]["steps"] == 2 and report["overlay"] == str(tmp_path / "two.yaml")

    train("one")
    found = [[event for event in steps(tmp_path / name) if event["event"] == "step"] for name in ("one", "two")]
    one, two = (events[0] for events in found)
    assert [event["step"] for event in found[1]] == [1, 2]
    # The same rollouts on the same weights; the passes share other batches, and the weights are in bf16.
    told = "reward" if stage == "grpo" else "reply_tokens"
    assert (two[told], two["rows"]) == (one[told], one["rows"])
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=0.05)
    adapters = [path.parent.name for path in (tmp_path / "two").glob("*/adapters-*/*/adapter_model.safetensors")]
    assert adapters == ["student"]


SHARED = {
    "grpo": [
        *(sys.executable, "-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version=2", "--num_processes=2"),
        "--no_python",
    ],
    "sft": [TORCHRUN, "--standalone", "--nproc-per-node=2", "--no-python"],
}


@pytest.mark.parametrize("stage", SHARED)
def test_two_processes_share_the_weights(vowels: Path, tiny_model, tmp_path: Path, stage: str) -> None:
    """FSDP, asked for by accelerate's own options and by `--fsdp`; there all weights are trained."""
    full = stage == "sft"
    written = STAGES[stage].replace("}", ", full: true}") if full else STAGES[stage]
    options = [f"optimize.stages=[{{{stage}: {written}}}]", "--lm", f"student=hf/{tiny_model()}"]

    def train(name: str, command: list[str | Path], *last: str) -> dict[str, object]:
        written = ["--run-dir", tmp_path / name, "-o", tmp_path / f"{name}.yaml", "--format", "json"]
        done = subprocess.run(
            [*command, *COMMAND, vowels, "--set", *options, *written, *last],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["stages"][0]["steps"] == 2
        return next(event for event in steps(tmp_path / name) if event["event"] == "step")

    one = train("one", [])
    with reserved() as port:
        *launcher, last = SHARED[stage]
        at = [] if full else [f"--main_process_port={port}"]  # torchrun finds one by itself
        two = train("two", [*launcher, *at, last], *(["--fsdp"] if full else []))
    told = "reward" if stage == "grpo" else "reply_tokens"
    assert (two[told], two["rows"]) == (one[told], one["rows"])
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=0.05)
    file = "model.safetensors" if full else "adapter_model.safetensors"
    assert [*(tmp_path / "two").glob(f"*/adapters-*/student/{file}")]
