"""`lmprog push`, and `hf://` references, against a stand-in that speaks the Hub's protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.standing_in import standing_in

pytest.importorskip("huggingface_hub", reason="needs the extra 'local'")

from tests.functional.hub_server import TOKEN, HubServer

pytestmark = pytest.mark.slow

SHA256 = "4dea6f4a28ddd2b1b8bb15ad9ca3b8f1d5a96c7b4e8b9a8e0cb6ea0f7d44c1a3"
BASE = """
lmprog: 1
name: desk
inputs: {text: str}
lms: {student: {model: MODEL}}
modules:
  classify: {lm: student, inputs: {text: str}, outputs: {label: {enum: [fruit, tool]}}, instructions: Say which.}
data: {train: train.jsonl, dev: train.jsonl}
metrics:
  right: {value: "${{ outputs.label == row.label }}"}
optimize: {metric: right, tune: {classify: [weights]}, stages: [{sft: {labelled: 9}}]}
"""
SCORE = {"mean": 0.625, "ci95": [0.52, 0.72]}
TUNED = {
    "run": "runs/secret-folder",
    "seed": 7,
    "stages": ["sft"],
    "scores": {"sft": SCORE},
    "accepted": {
        "kept": 1,
        "choose": 24,
        "confirm": 26,
        "verdict": "the program after stage 1, sft, is kept: +40.0 points",
    },
    "test": {
        "metric": "right",
        "n": 60,
        "before": {"mean": 0.2, "ci95": [0.1, 0.3]},
        "after": SCORE,
        "difference": {"mean": 0.425, "ci95": [0.3, 0.5], "p": 0.001},
    },
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    # Between the library's own tries.
    monkeypatch.setattr(_http, "time", standing_in(time, sleep=lambda seconds: None))
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol of its own, for large files
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server
    server.close()


@pytest.fixture
def overlay(write) -> Callable[..., Path]:
    """Writes an overlay with an adapter, of made-up bytes, as `optimize` writes one."""

    def make(model: str = "hf/acme/small", **more: Any) -> Path:
        import hashlib

        write(BASE.replace("MODEL", model))
        write('{"text": "a private pear", "label": "fruit"}\n' * 3, "train.jsonl")
        weights = b"weights"
        folder = write(
            json.dumps({"r": 4, "base_model_name_or_path": "/home/somebody/small"}), "a/adapter_config.json"
        ).parent
        (folder / "adapter_model.safetensors").write_bytes(weights)
        adapter = {"path": "a", "sha256": hashlib.sha256(weights).hexdigest(), "base": model, "base_sha256": SHA256}
        text = {
            "lmprog": 1,
            "extends": "./program.yaml",
            "lms": {"student": {"adapter": adapter}},
            **more,
            "tuned": TUNED,
        }
        return write(yaml.safe_dump(text, sort_keys=False), "program.tuned.yaml")

    return make


def test_an_adapter_is_pushed_with_a_card_and_comes_back_by_its_commit(cli, overlay, hub, write) -> None:
    status, out, err = cli("push", overlay(), "hf://acme/desk", "--license", "apache-2.0")
    assert status == 0, err
    commit = hub.branches["acme/desk"]["main"]
    assert hub.private["acme/desk"] is True and f"pushed to {hub.url}/acme/desk" in err
    files = hub.commits[commit]
    assert files["adapter_model.safetensors"] == b"weights"
    # Nothing of this machine, and no value of a row, goes along.
    assert json.loads(files["adapter_config.json"]) == {"r": 4, "base_model_name_or_path": "acme/small"}
    card = files["README.md"].decode()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["base_model"] == "acme/small" and yaml.safe_load(head)["license"] == "apache-2.0"
    for part in (
        "| rows to learn from | 3 |",
        "| before | 20.0% \\[10.0, 30.0\\] |",
        "+42.5 points",
        SHA256,
        "sft",
        "60 test rows",
    ):
        assert part in body, part
    assert not any(private in card for private in ("pear", "secret-folder", "somebody", "Say which"))
    # What the command prints is what a program names.
    adapter = yaml.safe_load(out)["adapter"]
    assert adapter["path"] == f"hf://acme/desk@{commit}"
    named = write(BASE.replace("MODEL}", f"hf/acme/small, adapter: {json.dumps(adapter)}}}"))
    assert cli("check", named)[0] == 0
    from lmprog.compiler import compile_file
    from lmprog.lms.adapter_files import checked_folder

    plan = compile_file(named).plan
    assert plan is not None and plan.lms["student"].adapter is not None
    folder, found = checked_folder(plan.lms["student"].adapter)
    assert (folder / "adapter_model.safetensors").read_bytes() == b"weights" and found == adapter["sha256"]
    assert not (folder / "README.md").exists()


def test_a_branch_can_be_named_and_a_dry_run_prints_the_card_alone(cli, overlay, hub) -> None:
    spec = overlay(model="embedded/smollm2-135m")
    status, out, err = cli("push", spec, "hf://acme/desk@second", "--dry-run")
    assert status == 0 and "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in out and "license:" not in out, err
    assert not hub.asked
    status, out, err = cli("push", spec, "hf://acme/desk@second")
    assert status == 0, err
    assert "README.md" in hub.commits[hub.branches["acme/desk"]["second"]]
    assert not hub.commits[hub.branches["acme/desk"]["main"]]


def test_the_folder_of_a_base_model_is_not_told(cli, overlay, hub) -> None:
    status, out, _ = cli("push", overlay(model="hf/./models/mine"), "hf://acme/desk", "--dry-run")
    assert status == 0 and "models/mine" not in out and "| base model | mine |" in out and "base_model:" not in out


PRIVATE = {"inputs": {"text": {"type": "str", "private": True}}}


def test_weights_of_private_values_go_to_no_public_repository(cli, overlay, hub) -> None:
    spec = overlay(**PRIVATE)
    status, _, err = cli("push", spec, "hf://acme/desk", "--public")
    assert status == 2 and "private values" in err and "declassify" in err and not hub.private
    assert cli("push", spec, "hf://acme/desk")[0] == 0
    hub.private["acme/desk"] = False
    status, _, err = cli("push", spec, "hf://acme/desk")
    assert status == 2 and "anybody can read that repository" in err
    reason = {"optimize": {"declassify": "the customers have agreed"}}
    assert cli("push", overlay(**PRIVATE, **reason), "hf://acme/desk")[0] == 0


@pytest.mark.parametrize(
    ("prepare", "status", "words"),
    [
        (lambda hub, patch: patch.setenv("HF_TOKEN", "hf_other"), 3, ["HTTP 401", "HF_TOKEN"]),
        (lambda hub, patch: setattr(hub, "failing", [("commit", 500)] * 9), 3, ["HTTP 500", "try again later"]),
        (lambda hub, patch: patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9"), 3, ["HF_ENDPOINT"]),
    ],
    ids=["token", "down", "unreachable"],
)
def test_what_the_hub_refuses_has_place_cause_and_fix(
    prepare, status, words, cli, overlay, hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = overlay()
    prepare(hub, monkeypatch)
    found, _, err = cli("push", spec, "hf://acme/desk")
    assert found == status and all(word in err for word in ["hf://acme/desk", *words]), err


@pytest.mark.parametrize("target", ["acme/desk", "hf://", "hf://a/b/c", "hf://acme/desk@", "hf://acme/../x"])
def test_a_target_of_another_form_is_refused(target: str, cli, overlay) -> None:
    status, _, err = cli("push", overlay(), target)
    assert status == 2 and "hf://ORGANIZATION/NAME@REVISION" in err


def test_a_program_without_an_adapter_and_a_changed_one_are_refused(cli, overlay, write) -> None:
    spec = overlay()
    status, _, err = cli("push", spec.with_name("program.yaml"), "hf://acme/desk")
    assert status == 2 and "has no adapter to push" in err
    (spec.parent / "a/adapter_model.safetensors").write_bytes(b"others")
    status, _, err = cli("push", spec, "hf://acme/desk", "--dry-run")
    assert status in (1, 2) and "sha256" in err


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("hf://acme/none", "there is no such repository"),
        ("hf://acme/desk@gone", "it has no revision gone"),
    ],
)
def test_a_reference_that_leads_nowhere_says_so(path: str, words: str, cli, overlay, hub) -> None:
    from lmprog.compiler.plan import AdapterReference
    from lmprog.errors import InfrastructureError
    from lmprog.lms.adapter_files import adapter_folder

    assert cli("push", overlay(), "hf://acme/desk")[0] == 0
    with pytest.raises(InfrastructureError, match=f"the adapter {path} cannot be read: {words}"):
        adapter_folder(AdapterReference(path))


LOAD = """
import sys
from lmprog.lms.local.weights import Weights, base_sha256
for revision in ("first", "main"):
    weights = Weights(f"hf/acme/tiny@{revision}", dtype="float32")
    print(base_sha256(f"hf/acme/tiny@{revision}"), float(weights.base.lm_head.weight.sum()))
"""


@pytest.mark.model
def test_a_model_is_loaded_in_the_revision_that_its_name_says(hub, tiny_model, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    hub.private["acme/tiny"] = False
    for branch, seed in (("first", 0), ("main", 1)):
        hub.branches.setdefault("acme/tiny", {})[branch] = f"{seed}" * 40
        hub.commits[f"{seed}" * 40] = {file.name: file.read_bytes() for file in tiny_model(seed).iterdir()}
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (line.split() for line in done.stdout.splitlines())
    assert first[0] != second[0] and first[1] != second[1]
