"""`load: 4bit` of an LM: what it is for, and what it is refused beside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.same_lm import same_lm
from lmprog.errors import LmprogError, UsageError
from lmprog.lms.merging import merges_of
from lmprog.optimizers.grpo.sampling.adapters import adapters_of, refuse_several, trainable_whole

SPEC = """
lmprog: 1
name: packed
inputs: {text: str}
outputs: {label: "${{ steps.classify.label }}"}
lms:
  student: {model: hf/some/model, load: 4bit}
modules:
  classify: {lm: student, inputs: {text: str}, outputs: {label: {enum: [a, b]}}, instructions: Say which.}
steps:
  classify: {module: classify, with: {text: "${{ inputs.text }}"}}
data: {train: rows.jsonl, dev: rows.jsonl}
metrics: {right: {value: "${{ outputs.label == row.label }}"}}
optimize:
  metric: right
  tune: {classify: [weights]}
  stages: [grpo]
"""
CASES = {
    "an hf/ model": ("", "", None),
    "a model behind an API": (
        "hf/some/model",
        "openai/gpt-4.1-mini",
        "LMP101 `load` of LM `student` is for models that are",
    ),
    "a server of vLLM": (
        "model: hf/some/model",
        "model: hosted_vllm/a/b, weights: hf/a/b, api_base: 'http://localhost/v1'",
        "LMP101 `load` of LM `student` is for models that are read from their files here",
    ),
    "the built-in model": (
        "hf/some/model",
        "embedded/smollm2-135m",
        "LMP101 `load` of LM `student`: `embedded/smollm2-135m`",
    ),
    "another way": ("load: 4bit", "load: 8bit", "LMP101 "),
    "all weights": (
        "[grpo]",
        "[{grpo: {full: true}}]",
        "LMP701 `grpo` has `full: true`, and `load: 4bit` of `student`",
    ),
}


def compiled(folder: Path, old: str = "", new: str = "", **options):
    (folder / "rows.jsonl").write_text('{"text": "one", "label": "a"}\n{"text": "two", "label": "b"}\n')
    (folder / "packed.yaml").write_text(SPEC.replace(old, new, 1) if old else SPEC)
    return compile_file(folder / "packed.yaml", **options)


@pytest.mark.parametrize("case", CASES)
def test_where_it_says_nothing_it_is_a_finding(case: str, tmp_path: Path) -> None:
    old, new, message = CASES[case]
    found = [f for f in compiled(tmp_path, old, new).findings if "load" in f.message]
    assert len(found) == (message is not None)
    if message is not None:
        assert f"{found[0].code} {found[0].message}".startswith(message)
        assert found[0].fix and found[0].line > 1


def test_another_model_that_is_bound_in_its_place_is_loaded_as_it_is(tmp_path: Path) -> None:
    optimized = SPEC[SPEC.index("optimize:") :]
    result = compiled(tmp_path, optimized, "", lms={"student": "openai/gpt-4.1-mini"})
    assert result.plan is not None and result.plan.lms["student"].load is None
    assert not [finding for finding in result.findings if "`load`" in finding.message]


def test_it_names_other_weights(tmp_path: Path) -> None:
    plan = compiled(tmp_path).plan
    assert plan is not None
    lm = plan.lms["student"]
    whole = replace(lm, load=None)
    assert (lm.load, lm.base, whole.base) == ("4bit", "hf/some/model:4bit", "hf/some/model")
    assert not same_lm(lm, whole)
    other = compiled(tmp_path, ", load: 4bit", "").plan
    assert other is not None and other.digest != plan.digest


def test_what_is_not_tested_is_refused(tmp_path: Path) -> None:
    from lmprog.compiler.plan import AdapterReference

    plan = compiled(tmp_path).plan
    assert plan is not None
    with pytest.raises(UsageError, match="FSDP with weights in 4 bits"):
        refuse_several(plan)
    with pytest.raises(UsageError, match="`full: true` trains all weights of student, and `load: 4bit` keeps"):
        trainable_whole(adapters_of(plan)[0], plan)
    adapted = replace(plan, lms={"student": replace(plan.lms["student"], adapter=AdapterReference("somewhere"))})
    with pytest.raises(LmprogError, match="was trained on weights with `load: 4bit`, and merged"):
        merges_of(adapted)
