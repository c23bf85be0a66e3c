"""`load: 4bit` from the spec to the overlay: a step is trained upon weights in 4 bits, and its adapter answers upon them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_killed_training import COMMAND, steps, vowels

pytest.importorskip("trl", reason="needs the extra 'train'")
pytest.importorskip("bitsandbytes", reason="needs the extra '4bit'")

pytestmark = pytest.mark.slow

__all__ = ["vowels"]
GRPO = "{steps: 1, examples: 2, rollouts: 4, learning_rate: 0.01, probe: 0, credit: 0}"
CLI = COMMAND[:-1]


def called(*command: str | Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*CLI, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kernel" not in done.stderr  # which bitsandbytes looks for on a hub
    return done.stdout


def test_a_step_is_trained_upon_weights_in_4_bits(vowels: Path, tiny_model, tmp_path: Path) -> None:
    model = tiny_model()
    text = vowels.read_text().replace("embedded/smollm2-135m", f"hf/{model}")

    def train(name: str, load: str) -> dict[str, Any]:
        vowels.write_text(text.replace(f"hf/{model}", f"hf/{model}{load}"))
        stages = f"optimize.stages=[{{grpo: {GRPO}}}]"
        called("optimize", vowels, "--set", stages, "--run-dir", tmp_path / name, "-o", tmp_path / f"{name}.yaml")
        (step,) = (event for event in steps(tmp_path / name) if event["event"] == "step")
        return step

    whole, packed = train("whole", ""), train("packed", ", load: 4bit")
    # Sampler and trainer have the same weights, up to the rounding of bf16, as they do without.
    assert packed["rows"] > 0 and packed["grad_norm"] > 0
    assert packed["mismatch"] <= 2 * whole["mismatch"] + 1e-3
    (adapter,) = (tmp_path / "packed").glob("*/adapters-1/student")
    # As the overlay of a run whose adapter was chosen: it is named with the digest of the weights in 4 bits.
    from lmprog.lms.adapter_files import sha256_of
    from lmprog.lms.local.weights import base_sha256

    reference = {
        "path": str(adapter),
        "sha256": sha256_of(adapter),
        "base": f"hf/{model}",
        "base_sha256": base_sha256(f"hf/{model}", "4bit"),
    }
    overlay = tmp_path / "adapted.yaml"
    overlay.write_text(json.dumps({"lmprog": 1, "extends": vowels.name, "lms": {"student": {"adapter": reference}}}))
    assert "line" in called("run", overlay, "--input", "topic=sea")


def test_the_extra_that_is_missing_is_named(vowels: Path, tiny_model, tmp_path: Path) -> None:
    vowels.write_text(vowels.read_text().replace("embedded/smollm2-135m", f"hf/{tiny_model()}, load: 4bit"))
    hide = "import sys; sys.modules['bitsandbytes'] = None; from lmprog.cli.main import main; main()"
    command = [sys.executable, "-c", hide, "optimize", vowels, "--run-dir", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        "with `load: 4bit` needs the extra '4bit' (bitsandbytes is missing): pip install 'lmprog[4bit]'" in done.stderr
    )
