"""Options of stages: by a pydantic Config or by its JSON schema alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lmprog.compiler import compile_file


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rank: int = Field(8, ge=1)


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    steps: int = Field(4, ge=1)
    temperature: float = Field(1.0, gt=0)
    rollouts: int = Field(8, ge=2)
    loss: Literal["a", "b"] = "a"
    select: int | None = Field(None, ge=2)
    demos: list[int] = Field([4], min_length=1)
    targets: str | list[str] = "all"
    at_least: float | Literal["best"] = "best"
    lora: Inner = Inner()

    @model_validator(mode="after")
    def fits(self) -> Config:
        if self.select is not None and self.select > self.rollouts:
            raise ValueError("select is more than rollouts")
        return self


SPEC = """\
lmprog: 1
name: desk
inputs: {text: str}
lms: {student: {model: embedded/smollm2-135m}}
modules: {classify: {inputs: {text: str}, outputs: {label: str}}}
data: {train: rows.jsonl, dev: more.jsonl}
metrics: {right: {python: ./m.py:right, with: {got: "${{ outputs.label }}", want: "${{ row.label }}"}}}
optimize:
  metric: right
  stages:
    - %s
"""


def found(tmp_path: Path, stage: str, config: Any) -> list[tuple[str, str]]:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "x"}\n')
    (tmp_path / "more.jsonl").write_text('{"text": "b", "label": "x"}\n')
    (tmp_path / "m.py").write_text("def right(got: str, want: str) -> bool:\n    return got == want\n")
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC % stage)
    compilation = compile_file(path, stage_configs=lambda name: config if name == "grpo" else None)
    return [(finding.code, finding.message) for finding in compilation.findings]


@pytest.mark.parametrize("config", [Config, Config.model_json_schema()], ids=["pydantic", "schema"])
@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("grpo", []),
        ("grpo: {}", []),
        ("grpo:", []),
        ("grpo: {steps: 3, select: null, loss: b, demos: [1, 2], targets: [q, v], lora: {rank: 2}}", []),
        ("grpo: {step: 3}", [("LMP101", "stage `grpo` has no key `step`")]),
        (
            "grpo: {steps: 0}",
            [("LMP101", "`steps` of stage `grpo` must be a whole number of at least 1, not the number 0")],
        ),
        (
            "grpo: {temperature: -1}",
            [("LMP101", "`temperature` of stage `grpo` must be a number above 0, not the number -1")],
        ),
        ("grpo: {loss: c}", [("LMP101", "`loss` of stage `grpo` must be a or b, not `c`")]),
        ("grpo: {at_least: 0.5}", []),
        (
            "grpo: {at_least: most}",
            [("LMP101", "`at_least` of stage `grpo` must be best or a number, not `most`")],
        ),
        ("grpo: {lora: {rnk: 2}}", [("LMP101", "`lora` of stage `grpo` has no key `rnk`")]),
        ("grpo: 3", [("LMP101", "the options of stage `grpo` must be a mapping")]),
        ("other: {}", [("LMP103", "there is no optimizer `other`")]),
        ("alternate: {rounds: 2, of: [grpo, grpo: {steps: 3}]}", []),
        ("alternate: {of: [grpo: {step: 3}]}", [("LMP101", "stage `grpo` has no key `step`")]),
        ("alternate: {of: [other]}", [("LMP103", "there is no optimizer `other`")]),
        ("alternate: {rounds: 0, of: [grpo]}", [("LMP101", "`rounds` must be a whole number from 1 on")]),
        (
            "alternate: {rounds: 100000000000000, of: [grpo]}",
            [("LMP101", "`rounds` must be a whole number from 1 to 1,000")],
        ),
        (
            "alternate: {rounds: 1000, of: [alternate: {rounds: 1000, of: [grpo]}]}",
            [("LMP101", "this `alternate` stands for 1,000,000 stages, and 10,000 are the most")],
        ),
        ("alternate: {rounds: 2}", [("LMP101", "`alternate` needs `of`, the stages of a round")]),
        ("alternate: [grpo]", [("LMP101", "`alternate` takes `rounds` and `of`, the stages of a round")]),
        ("{grpo: {}, other: {}}", [("LMP101", "a stage is one optimizer with its options")]),
    ],
)
def test_options(tmp_path: Path, stage: str, expected: list[tuple[str, str]], config: Any) -> None:
    assert found(tmp_path, stage, config) == expected


def test_the_rounds_of_alternate_are_written_out(tmp_path: Path) -> None:
    found(tmp_path, "alternate: {rounds: 2, of: [grpo, grpo: {steps: 3}]}", Config)
    plan = compile_file(tmp_path / "spec.yaml", stage_configs=lambda name: Config).plan
    assert plan is not None and plan.optimize is not None
    assert [(stage.optimizer, dict(stage.options)) for stage in plan.optimize.stages] == [
        ("grpo", {}), ("grpo", {"steps": 3}), ("grpo", {}), ("grpo", {"steps": 3}),
    ]  # fmt: skip


def test_nothing_varies_is_a_finding_of_its_own(tmp_path: Path) -> None:
    for stage in ("grpo: {temperature: 0, rollouts: 1}", "alternate: {of: [grpo: {temperature: 0, rollouts: 1}]}"):
        assert [code for code, _ in found(tmp_path, stage, Config)] == ["LMP702", "LMP702"]


def test_what_a_config_checks_itself(tmp_path: Path) -> None:
    ((code, message),) = found(tmp_path, "grpo: {select: 9}", Config)
    assert code == "LMP101"
    assert "select is more than rollouts" in message


@pytest.mark.parametrize(
    ("options", "least"),
    [("{max_metric_calls: 8}", 9), ("{max_metric_calls: 9}", None), ("{max_metric_calls: 8, minibatch: 3}", None)],
)
def test_gepa_needs_runs_for_the_dev_rows_and_one_reflection(tmp_path: Path, options: str, least: int | None) -> None:
    from lmprog.optimizers.optimizer import options_of

    proposed = SPEC.replace("  stages:", "  proposer: student\n  tune: {classify: [instructions]}\n  stages:")
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "x"}\n')
    (tmp_path / "more.jsonl").write_text('{"text": "b", "label": "x"}\n')
    (tmp_path / "m.py").write_text("def right(got: str, want: str) -> bool:\n    return got == want\n")
    path = tmp_path / "spec.yaml"
    path.write_text(proposed % f"gepa: {options}")
    found = [finding for finding in compile_file(path, stage_configs=options_of).findings if finding.code == "LMP502"]
    assert bool(found) == (least is not None)
    if found:
        assert found[0].severity == "error" and f"raise it to {least}" in (found[0].fix or "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{learning_rate: 10}", "LMP101 `learning_rate` of stage `grpo` must be a number of at most 0.1"),
        ("{temperature: 40}", "LMP101"),
        ("{importance_sampling_cap: 0.5}", "LMP101"),
        ("{format_failure: 5.0}", "LMP702 `format_failure: 5.0` rewards a run that fails as well as the best"),
        ("{format_failure: 0.5}", ""),
        ("{min_group: 9, rollouts: 4}", "LMP702 `min_group: 9` with 4 runs on each row"),
        ("{select: 64, rollouts: 4}", "LMP702 `select: 64` with 4 runs on each row"),
        ("{select: 9}", "LMP702 `select: 9` with 8 runs on each row"),
        ("{steps: 3, updates: 4}", "LMP702 `updates: 4` on one wave are more than `steps: 3`"),
        ("{updates: 41}", "LMP702 `updates: 41` on one wave are more than `steps: 40`"),
        ("{updates: 40, select: 8, min_group: 8, learning_rate: 0.1, temperature: 1.5}", ""),
        ("{level: trajectory, baseline: module_ema}", "LMP702 `baseline: module_ema` keeps an average for each module"),
    ],
)
def test_options_of_a_training_that_make_no_sense(tmp_path: Path, options: str, said: str) -> None:
    from lmprog.optimizers.optimizer import options_of

    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "x"}\n')
    (tmp_path / "more.jsonl").write_text('{"text": "b", "label": "x"}\n')
    (tmp_path / "m.py").write_text("def right(got: str, want: str) -> bool:\n    return got == want\n")
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC % f"grpo: {options}")
    errors = [each for each in compile_file(path, stage_configs=options_of).findings if each.severity == "error"]
    found = [f"{finding.code} {finding.message}" for finding in errors]
    assert len(found) == bool(said) and all(each.startswith(said) for each in found), found
