"""A stage with `full: true` that could not train a model whole is a finding, before anything is spent."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.compiler import compile_file

SPEC = """
lmprog: 1
name: whole
inputs: {text: str}
outputs: {label: "${{ steps.classify.label }}", words: "${{ steps.describe.words }}"}
lms:
  student: {model: embedded/smollm2-135m}
  other: {model: hf/some/model}
modules:
  classify: {lm: student, inputs: {text: str}, outputs: {label: {enum: [a, b]}}, instructions: Say which.}
  describe: {lm: student, inputs: {text: str}, outputs: {words: str}, instructions: Describe it.}
steps:
  classify: {module: classify, with: {text: "${{ inputs.text }}"}}
  describe: {module: describe, with: {text: "${{ inputs.text }}"}}
data: {train: rows.jsonl, dev: rows.jsonl}
metrics: {right: {value: "${{ outputs.label == row.label and outputs.words != '' }}"}}
optimize:
  metric: right
  tune: {classify: [weights], describe: [weights]}
  stages: [{grpo: {full: true}}]
"""
CASES = {
    "several models": ("describe: {lm: student", "describe: {lm: other", "and trains one model, not 2"),
    "per module": ("metric: right\n", "metric: right\n  adapters: per_module\n", "adapters: per_module wants"),
    "a server": (
        "model: embedded/smollm2-135m",
        "model: hosted_vllm/a/b, weights: hf/a/b, api_base: 'http://localhost/v1'",
        "the server of `student`",
    ),
    "an adapter": (
        "student: {model: embedded/smollm2-135m",
        "student: {adapter: ./there, model: hf/x/y",
        "has an adapter",
    ),
    "an adapter before": ("stages: [", "stages: [sft, ", "a stage before it trains an adapter"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_trained_whole_is_a_finding(case: str, tmp_path: Path) -> None:
    old, new, message = CASES[case]
    assert old in SPEC
    (tmp_path / "rows.jsonl").write_text('{"text": "one", "label": "a"}\n{"text": "two", "label": "b"}\n')
    for text, expected in ((SPEC, 0), (SPEC.replace(old, new, 1), 1)):
        (tmp_path / "whole.yaml").write_text(text)
        found = [
            finding for finding in compile_file(tmp_path / "whole.yaml").findings if "full: true" in finding.message
        ]
        assert len(found) == expected
        assert not found or (message in found[0].message and found[0].code == "LMP701")
