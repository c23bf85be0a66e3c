"""`lmprog optimize` with `grpo` on small models of random weights: which adapters come out of it, and what they do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

PROGRAM = """
lmprog: 1
name: letters
inputs: {text: str}
outputs: {first: "${{ steps.first.said }}", second: "${{ steps.second.said }}"}
lms:
  one: {model: hf/MODEL, params: {max_tokens: 4}}
  two: {model: hf/OTHER, params: {max_tokens: 4}}
modules:
  first: {lm: one, inputs: {text: str}, outputs: {said: str}, instructions: Say a}
  second: {lm: SECOND, inputs: {text: str}, outputs: {said: str}, instructions: Say b}
steps:
  first: {module: first, with: {text: "${{ inputs.text }}"}}
  second: {module: second, with: {text: "${{ inputs.text }}"}}
data: {train: rows.jsonl, dev: dev.jsonl}
metrics:
  letters:
    python: ./metrics.py:letters
    with: {first: "${{ outputs.first }}", second: "${{ outputs.second }}"}
optimize:
  metric: letters
  adapters: ADAPTERS
  tune: {first: [weights], second: [weights]}
  stages:
    - grpo: {steps: 12, examples: 4, rollouts: 8, learning_rate: 0.02, evaluate_every: 6, lora: {rank: 4, alpha: 8}}
"""
METRICS = """
def letters(first: str, second: str) -> float:
    return (first.count("a") + second.count("b")) / 8
"""


@pytest.fixture
def letters(tiny_model, write) -> Callable[..., Path]:
    """Writes a program that is to say a lot of a, and then of b."""

    def make(adapters: str = "per_lm", second: str = "one", other: int = 0, **more: str) -> Path:
        write(METRICS, "metrics.py")
        for name, count in (("rows.jsonl", 8), ("dev.jsonl", 12)):
            write("".join(json.dumps({"text": f"{name[0]}{n}"}) + "\n" for n in range(count)), name)
        text = PROGRAM.replace("ADAPTERS", adapters).replace("SECOND", second)
        model = str(tiny_model())
        text = text.replace("MODEL", model).replace("OTHER", str(tiny_model(other)) if other else model)
        for old, new in more.items():
            text = text.replace(old, new)
        if second == "one":
            text = text.replace(next(line for line in text.splitlines() if line.startswith("  two:")) + "\n", "")
        return write(text)

    return make


def optimized(cli, spec: Path) -> dict[str, Any]:
    status, out, err = cli("optimize", spec, "--run-dir", spec.parent / "run", "--format", "json")
    assert status == 0, err
    return json.loads(out)


@pytest.mark.parametrize(
    ("adapters", "second", "other", "names", "where"),
    [
        ("per_lm", "one", 0, {"one"}, {"lms": {"one"}}),
        ("per_module", "one", 0, {"first", "second"}, {"modules": {"first", "second"}}),
        ("per_lm", "two", 1, {"one", "two"}, {"lms": {"one", "two"}}),
        ("per_lm", "two", 0, {"one", "two"}, {"lms": {"one", "two"}}),  # two LMs of one model
        ("per_module", "two", 1, {"first", "second"}, {"modules": {"first", "second"}}),
    ],
)
def test_each_adapter_is_trained_and_named_in_the_overlay(
    cli, letters, monkeypatch, adapters: str, second: str, other: int, names: set[str], where: dict[str, set[str]]
) -> None:
    import yaml

    from lmprog.lms import local

    spec = letters(adapters, second, other)
    report = optimized(cli, spec)
    overlay = spec.with_name("program.tuned.yaml")
    written = yaml.safe_load(overlay.read_text())
    found = {section: {id for id, part in written[section].items() if "adapter" in part} for section in where}
    assert found == where and not {"lms", "modules"} - where.keys() & written.keys()
    (folder,) = (spec.parent / "run" / "1-grpo").glob("adapters-*")
    assert {path.name for path in folder.iterdir()} == names
    assert cli("check", overlay)[0] == 0
    monkeypatch.setattr(local, "_loaded", {})  # as in a process of its own
    status, out, _ = cli("eval", overlay, "--split", "dev", "--format", "json")
    assert status == 0
    assert json.loads(out)["mean"] == report["stages"][0]["validate"]["mean"] > 0.2
