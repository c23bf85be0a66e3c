"""`lmprog optimize` in two processes, as torchrun starts them: one result, written once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from test_killed_training import COMMAND, steps, vowels

__all__ = ["vowels"]
STAGES = "optimize.stages=[{grpo: {steps: 2, examples: 2, rollouts: 4, evaluate_every: 2}}]"


def test_two_processes_train_one_adapter(vowels: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def start(name: str, **environment: str) -> subprocess.Popen[str]:
        options = ["--set", STAGES, "--run-dir", tmp_path / name, "-o", tmp_path / f"{name}.yaml", "--format", "json"]
        return subprocess.Popen(
            [*COMMAND, vowels, *options],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    ranks = [start("two", **told, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    report = json.loads(said[0][0])
    assert said[1][0] == "" and "step 1/2" in said[0][1] and "step 1/2" not in said[1][1]
    assert report["stages"][0]["steps"] == 2 and report["overlay"] == str(tmp_path / "two.yaml")

    alone = start("one")
    assert alone.communicate() and alone.returncode == 0
    found = [[event for event in steps(tmp_path / name) if event["event"] == "step"] for name in ("one", "two")]
    one, two = (events[0] for events in found)
    assert [event["step"] for event in found[1]] == [1, 2]
    # The same rollouts on the same weights; the passes share other batches, and the weights are in bf16.
    assert (two["reward"], two["rows"]) == (one["reward"], one["rows"])
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=0.05)
    adapters = [path.parent.name for path in (tmp_path / "two").glob("1-grpo/adapters-*/*/adapter_model.safetensors")]
    assert adapters == ["student"]
