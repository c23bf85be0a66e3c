"""A small program compiles to the plan that the runtime expects."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.backends import model_folder
from lmprog.compiler.checks import optimizing
from lmprog.compiler.plan import ModuleCall
from lmprog.compiler.types.lattice import Enum

SPEC = """\
lmprog: 1
name: desk
inputs: {text: str}
vars: {labels: [billing, refund]}
lms:
  student: {model: embedded/smollm2-135m, params: {max_tokens: 8}}
modules:
  classify:
    lm: student
    inputs: {text: str}
    outputs: {label: {enum: "${{ vars.labels }}"}}
    instructions: Say which.
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "desk.yaml"
    path.write_text(SPEC)
    return path


def test_one_module_is_one_step(spec: Path) -> None:
    plan = compile_file(spec).plan
    assert plan is not None
    (step,) = plan.steps
    assert step.id == "classify"
    assert isinstance(step.action, ModuleCall)
    assert step.action.arguments["text"].evaluate({"inputs": {"text": "hello"}}) == "hello"
    assert plan.outputs["label"].evaluate({"steps": {"classify": {"label": "refund"}}}) == "refund"
    assert plan.modules["classify"].outputs["label"].type == Enum(("billing", "refund"))


def test_a_candidate_is_laid_over_the_file(spec: Path) -> None:
    change = {"modules": {"classify": {"instructions": "{{ as it is }}", "demos": [{"text": "a", "label": "refund"}]}}}
    plan = compile_file(spec, change=change, data=False).plan
    assert plan is not None
    assert plan.modules["classify"].instructions == "{{ as it is }}"
    assert plan.modules["classify"].demos == ({"text": "a", "label": "refund"},)


def test_a_candidate_with_a_wrong_demo_is_refused(spec: Path) -> None:
    change = {"modules": {"classify": {"demos": [{"text": "a", "label": "returns"}]}}}
    compilation = compile_file(spec, change=change, data=False)
    assert compilation.plan is None
    assert [finding.code for finding in compilation.findings] == ["LMP203"]


def test_overrides_and_models(spec: Path) -> None:
    compilation = compile_file(spec, overrides={"lms.student.params.max_tokens": 3}, lms={"student": "openai/gpt"})
    plan = compilation.plan
    assert plan is not None
    assert plan.lms["student"].model == "openai/gpt"
    assert plan.lms["student"].params["max_tokens"] == 3
    assert not plan.lms["student"].runs_here


def test_the_digest_is_of_the_meaning(spec: Path, tmp_path: Path) -> None:
    same = tmp_path / "same.yaml"
    same.write_text(SPEC + "metrics: {}\ndescription: other\n")
    other = tmp_path / "other.yaml"
    other.write_text(SPEC.replace("Say which", "Say what"))
    digests = [compile_file(path).plan.digest for path in (spec, same, other)]  # type: ignore[union-attr]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("given", "trusted"),
    [
        ({"lms": {"student": "openai/gpt"}}, False),
        ({"overrides": {"lms.student.model": "openai/gpt"}}, False),
        ({"change": {"lms": {"student": {"model": "openai/gpt"}}}}, False),
        ({"lms": {"student": "openai/gpt"}, "overrides": {"lms.student.trusted": True}}, True),
        ({"lms": {"student": "hf/other"}}, True),
        ({"overrides": {"lms.student.params.max_tokens": 3}}, True),
    ],
)
def test_trust_is_said_of_one_model(spec: Path, given: dict[str, Any], trusted: bool) -> None:
    spec.write_text(SPEC.replace("smollm2-135m,", "smollm2-135m, trusted: true,"))
    plan = compile_file(spec, **given).plan
    assert plan is not None
    assert plan.lms["student"].trusted is trusted


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            '{label: {enum: "${{ vars.labels }}"}}',
            "{label: str, why: str}\n    format: text",
            "the format text reads one output",
        ),
        ('{label: {enum: "${{ vars.labels }}"}}', "{}\n    format: text", "needs an output"),
        ("instructions: Say which.", f"max_turns: 1{'0' * 400}", "must be a whole number below 1e308"),
        ("max_tokens: 8", f"max_tokens: 1{'0' * 400}", "must be a whole number below 1e308"),
        ("params: {max_tokens: 8}", f"price: {{input: 1{'0' * 400}}}", "must be a number below 1e308"),
        (
            "model: embedded/smollm2-135m",
            "model: openai/x, api_base: [null]",
            "an address of `api_base` of LM `student` is empty",
        ),
    ],
    ids=["two outputs", "no output", "turns", "parameter", "price", "address"],
)
def test_a_slip_is_a_finding(spec: Path, before: str, after: str, said: str) -> None:
    assert before in SPEC
    spec.write_text(SPEC.replace(before, after))
    assert any(said in finding.message for finding in compile_file(spec).errors)


@pytest.mark.parametrize("name", ["a" * 300, '"a\\0b"', '"a\\uD800b"'], ids=["too long", "NUL", "half a pair"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("model: embedded/smollm2-135m", "model: NAME"),
        ("params: {max_tokens: 8}", "adapter: NAME"),
        ("params: {max_tokens: 8}", "adapter: {path: NAME}"),
        ("embedded/smollm2-135m", "hosted_vllm/x, adapter_store: NAME"),
        ("embedded/smollm2-135m", "hosted_vllm/x, api_base: {discover: NAME}"),
        ("[billing, refund]", "{file: NAME}"),
        ("name: desk", "extends: NAME"),
        ("name: desk", "data: {train: NAME}"),
        ("name: desk", "tools: {find: {python: NAME}}"),
        ("name: desk", "steps: {one: {program: NAME}}"),
    ],
)
def test_a_name_that_no_file_can_have_is_one_of_no_file(spec: Path, name: str, before: str, after: str) -> None:
    assert before in SPEC
    spec.write_text(SPEC.replace(before, after.replace("NAME", name)))
    assert isinstance(compile_file(spec).findings, tuple)


def test_a_folder_in_place_of_a_model_is_named_from_where_the_command_runs(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec.parent / "weights").mkdir()
    spec.write_text(SPEC.replace("embedded/smollm2-135m", "weights"))
    monkeypatch.chdir(spec.parent.parent)
    (fix,) = [finding.fix for finding in compile_file(spec).findings if "names no model" in finding.message]
    assert fix is not None
    assert model_folder(fix.removeprefix("write ")) == Path(spec.parent.name) / "weights"


def test_rows_that_differ_in_an_input_which_some_lack_are_not_the_same(spec: Path) -> None:
    (spec.parent / "train.jsonl").write_text('{"text": "a"}\n{"text": "b", "more": "x"}\n')
    (spec.parent / "dev.jsonl").write_text('{"text": "b", "more": "y"}\n{"text": "c"}\n')
    data = 'name: desk\ndata: {train: train.jsonl, dev: dev.jsonl}\noutputs: {more: "${{ inputs.more }}"}\nsteps: {}'
    text = SPEC.replace("name: desk", data).replace("{text: str}\nvars", "{text: str, more: str?}\nvars")
    spec.write_text(text)
    assert "LMP602" not in [finding.code for finding in compile_file(spec).findings]
    (spec.parent / "dev.jsonl").write_text('{"text": "b", "more": "x"}\n')
    assert "LMP602" in [finding.code for finding in compile_file(spec).findings]


def test_weights_of_an_adapter_that_cannot_be_read_are_a_finding(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (spec.parent / "tuned").mkdir()
    (spec.parent / "tuned" / "adapter_model.safetensors").write_bytes(b"x")
    adapter = f'adapter: {{path: tuned, sha256: "{"0" * 64}"}}'
    spec.write_text(SPEC.replace("params: {max_tokens: 8}", adapter))

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(optimizing, "hashlib", SimpleNamespace(file_digest=refuse))
    (found,) = compile_file(spec).errors
    assert (found.code, found.message) == (
        "LMP704",
        "the weights of this adapter cannot be read: Permission denied",
    )
