"""The most LM calls of a stage: one count for `lmprog check` (LMP502) and for `--dry-run`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.optimizers.dry_run import forecast
from lmprog.optimizers.optimizer import installed, options_of
from lmprog.runtime.program import load

OTHERS = ("dev before and after each stage", "dev that confirms", "test at the end")
"""Parts of a forecast that no budget pays for."""
TEACHERS = "teachers: [{program: big.yaml}, {program: big.yaml, rollouts: 3}]"
STAGES = [
    f"bootstrap: {{sets: 3, rows: 5, {TEACHERS}}}",
    f"prompt_search: {{trials: 4, proposals: 2, bootstrap_rows: 3, {TEACHERS}}}",
    "gepa: {max_metric_calls: 90, minibatch: 2}",
    f"grpo: {{steps: 3, examples: 2, rollouts: 2, {TEACHERS}}}",
    f"sft: {{rows: 4, samples: 2, {TEACHERS}}}",
    "fast_slow: {steps: 4, every: 2, examples: 2, rollouts: 2}",
    "prompt_search: {trials: 2}\n    - ensemble: {members: 3, judge: student}",
]
PROGRAM = """
lmprog: 1
name: p
lms: {student: {model: embedded/smollm2-135m, params: {max_tokens: 8}}}
inputs: {text: str}
modules:
  first: {lm: student, inputs: {text: str}, outputs: {note: str}, instructions: Note.}
  second: {lm: student, inputs: {note: str}, outputs: {label: {enum: [a, b]}}, instructions: Sort.}
steps:
  first: {module: first, with: {text: "${{ inputs.text }}"}}
  second: {module: second, with: {note: "${{ steps.first.note }}"}}
outputs: {label: "${{ steps.second.label }}"}
"""
OPTIMIZED = """
data: {train: rows.jsonl, dev: rows.jsonl}
metrics: {right: {value: "${{ outputs.label == row.label }}"}}
optimize:
  metric: right
  train: train
  validate: dev
  proposer: student
  tune: {first: [instructions, demos, weights], second: [instructions, demos, weights]}
  budget: {lm_calls: 20}
  stages:
    - STAGE
"""


@pytest.mark.parametrize("stage", STAGES)
def test_a_check_and_a_dry_run_count_the_same_calls(stage: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"text": "row {row}", "label": "a"}}\n' for row in range(8)))
    (tmp_path / "big.yaml").write_text(PROGRAM)
    spec = tmp_path / "p.yaml"
    spec.write_text(PROGRAM + OPTIMIZED.replace("STAGE", stage))
    findings = compile_file(spec, stage_configs=options_of, stage_names=installed).findings
    stages = [part for part in forecast(load(spec)).parts if part.name not in OTHERS]
    calls = sum(part.lm_calls for part in stages)
    assert [finding.message for finding in findings if finding.code == "LMP502"] == [
        f"the stages can take up to {calls} LM calls, and the budget is 20 LM calls"
    ], findings
