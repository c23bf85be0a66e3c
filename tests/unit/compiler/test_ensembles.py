"""`ensemble` in a file: what it is laid out as, what a check says of it, and that nothing in it goes unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.artefacts.difference import difference
from lmprog.compiler.bounds import bounds
from lmprog.compiler.plan import Plan

BASE = """
    lmprog: 1
    name: sort
    {inputs}
    lms:
      small: {{model: embedded/smollm2-135m, trusted: true}}
      large: {{model: openai/large, trusted: {trusted}}}
    modules:
      classify:
        lm: small
        inputs: {{text: {text}}}
        outputs: {{label: {{type: {{enum: [x, y]}}}}, why: str}}
        instructions: Say x or y.
    {more}
"""
OVERLAY = """
    lmprog: 1
    extends: ./program.yaml
    ensemble:
      {rule}
      members:
        - {{}}
        - classify: {{instructions: Two.}}
        - classify: {{instructions: Three., demos: [{{text: hm, label: x, why: so}}]}}
    {more}
"""


@pytest.fixture
def ensemble(write, tmp_path: Path):
    """Writes a program and an overlay that makes an ensemble of it; returns what compiling the overlay came to."""

    def make(
        rule: str = "vote: label", more: str = "", base: str = "", text: str = "str", trusted: str = "false", **how
    ):
        write(BASE.format(text=text, trusted=trusted, more=base, inputs=""), "program.yaml")
        return compile_file(write(OVERLAY.format(rule=rule, more=more), "voted.yaml"), **how)

    return make


def plan_of(made) -> Plan:
    assert made.plan is not None, made.errors
    return made.plan


def test_it_is_a_step_for_each_member_and_steps_that_pick(ensemble) -> None:
    plan = plan_of(ensemble())
    assert [step.id for step in plan.steps] == ["member_1", "member_2", "member_3", "answers", "best"]
    assert [member.modules["classify"].instructions for member in plan.members] == ["Say x or y.", "Two.", "Three."]
    assert [len(member.modules["classify"].demos) for member in plan.members] == [0, 0, 1]
    assert {name: str(kind) for name, kind in plan.output_types.items()} == {
        name: str(kind) for name, kind in plan.members[0].output_types.items()
    }
    assert list(plan.inputs) == ["text"] and not plan.modules
    assert bounds(plan).total_calls == 3


def test_a_judge_is_one_more_call_of_its_lm(ensemble) -> None:
    plan = plan_of(ensemble("judge: large"))
    assert bounds(plan).total_calls == 4
    assert plan.modules["judge"].lm == "large"
    assert not ensemble("judge: large").findings  # the judge's LM is used


@pytest.mark.parametrize(
    ("rule", "code", "said"),
    [
        ("vote: lable", "LMP203", "`vote` names the output `lable`"),
        ("judge: lage", "LMP103", "`judge` names the LM `lage`"),
        ("vote: label\n      judge: large", "LMP101", "exactly one of vote, judge"),
    ],
)
def test_a_rule_that_names_nothing_is_found(ensemble, rule: str, code: str, said: str) -> None:
    made = ensemble(rule)
    assert made.plan is None
    assert [(finding.code, said in finding.message) for finding in made.errors] == [(code, True)]


def test_a_member_changes_words_of_modules_that_there_are(ensemble, write) -> None:
    write(BASE.format(text="str", trusted="false", more="", inputs=""), "program.yaml")
    for member, code in (
        ("clasify: {instructions: Two.}", "LMP103"),
        ("classify: {lm: large}", "LMP101"),
        ("classify: {demos: [{text: hm, label: z, why: so}]}", "LMP203"),
    ):
        path = write(
            f"""
            lmprog: 1
            extends: ./program.yaml
            ensemble: {{vote: label, members: [{{}}, {{{member}}}]}}
            """,
            "wrong.yaml",
        )
        assert [finding.code for finding in compile_file(path).errors] == [code], member


def test_a_program_that_writes_is_not_run_several_times(ensemble, write) -> None:
    write("def send(text: str) -> bool:\n    return True\n", "tools.py")
    tools = """tools: {send: {python: "./tools.py:send", effects: write}}
    steps:
      ask: {module: classify, with: {text: "${{ inputs.text }}"}}
      tell: {tool: send, with: {text: "${{ steps.ask.label }}"}}
    outputs: {label: "${{ steps.ask.label }}", why: "${{ steps.ask.why }}"}
    inputs: {text: str}"""
    found = ensemble(base=tools).errors
    assert [(finding.code, "`send` writes: it would write 3 times" in finding.message) for finding in found] == [
        ("LMP101", True)
    ]
    assert ensemble(base=tools.replace("effects: write", "effects: read")).plan is not None


def test_private_values_reach_no_judge_that_is_not_trusted(ensemble) -> None:
    private = "{type: str, private: true}"
    found = ensemble("judge: large", text=private)
    assert [finding.code for finding in found.errors] == ["LMP401"]
    assert found.errors[0].path[-2:] == ("judge.task", "large (untrusted)")
    assert ensemble("judge: large", text=private, trusted="true").plan is not None
    assert ensemble("vote: label", text=private).plan is not None


def test_private_demos_of_members_are_found_in_what_optimize_wrote(ensemble) -> None:
    private = "{type: str, private: true}"
    found = ensemble(text=private, more="tuned: {seed: 0}")
    assert [(finding.code, "stand in this overlay" in finding.message) for finding in found.errors] == [
        ("LMP402", True)
    ]


def test_models_and_overrides_are_those_of_all_members(ensemble) -> None:
    plan = plan_of(ensemble(lms={"small": "openai/other"}, overrides={"modules.classify.format": "json"}))
    assert {member.lms["small"].model for member in plan.members} == {"openai/other"}
    assert {member.modules["classify"].format for member in plan.members} == {"json"}


def test_members_in_another_order_are_another_program(ensemble, write) -> None:
    first = plan_of(ensemble()).digest
    text = OVERLAY.format(rule="vote: label", more="").replace("Two.", "Swap.").replace("Three.", "Two.")
    assert plan_of(compile_file(write(text.replace("Swap.", "Three."), "voted.yaml"))).digest != first


def test_a_program_that_runs_an_ensemble_binds_its_models(ensemble, write) -> None:
    ensemble()
    outer = write(
        """
        lmprog: 1
        name: outer
        inputs: {text: str}
        outputs: {label: "${{ steps.ask.label }}"}
        lms: {mine: {model: openai/mine}}
        steps: {ask: {program: ./voted.yaml, with: {text: "${{ inputs.text }}"}, lms: {small: mine}}}
        """,
        "outer.yaml",
    )
    plan = plan_of(compile_file(outer))
    (step,) = plan.steps
    inner = step.action.plan  # type: ignore[union-attr]
    models = [member.action.plan.lms["small"].model for member in inner.steps[:3]]
    assert models == [member.lms["small"].model for member in inner.members] == ["openai/mine"] * 3
    assert bounds(plan).total_calls == 3


def test_the_difference_names_each_member(ensemble, tmp_path: Path) -> None:
    plan = plan_of(ensemble())
    base = plan_of(compile_file(tmp_path / "program.yaml"))
    said = difference(base, plan)
    assert "+vote: label" in said and "b/ensemble.members[1].classify.instructions" in said
    assert "ensemble.members[0]" not in said and difference(plan, plan) == ""
    other = plan_of(ensemble("judge: large"))
    assert "+judge: large" in difference(plan, other)


STAGES = """
    data: {{train: rows.jsonl, dev: rows.jsonl}}
    metrics: {{right: {{value: "outputs.label == row.label"}}}}
    optimize: {{metric: right, tune: {{classify: [instructions, weights]}}, stages: [{stages}]}}
"""


@pytest.mark.parametrize(
    ("stages", "code", "said"),
    [
        ("bootstrap, {ensemble: {vote: label}}", None, ""),
        ("bootstrap, ensemble", "LMP702", "votes on one output, and the program has 2"),
        ("{ensemble: {vote: label}}, prompt_search", "LMP702", "must be the last"),
        ("grpo, {ensemble: {vote: label}}", "LMP702", "no programs to choose from"),
        ("prompt_search, {ensemble: {vote: lable}}", "LMP203", "names the output `lable`"),
        ("prompt_search, {ensemble: {judge: lage}}", "LMP103", "names the LM `lage`"),
        ("prompt_search, {ensemble: {judge: large, vote: label}}", "LMP702", "not by both"),
    ],
)
def test_a_stage_that_could_not_do_its_work_is_found(
    write, tmp_path: Path, stages: str, code: str | None, said: str
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "x", "why": "so"}\n')
    more = STAGES.format(stages=stages).replace("classify: [instructions", "classify: [instructions, demos")
    made = compile_file(write(BASE.format(text="str", trusted="false", more=more, inputs=""), "program.yaml"))
    assert [(finding.code, said in finding.message) for finding in made.errors] == ([(code, True)] if code else [])


def test_a_stage_shows_no_private_value_to_an_untrusted_judge(write, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "x", "why": "so"}\n')
    more = STAGES.format(stages="prompt_search, {ensemble: {judge: large}}")
    private = "{type: str, private: true}"
    made = compile_file(write(BASE.format(text=private, trusted="false", more=more, inputs=""), "program.yaml"))
    assert {finding.code for finding in made.errors} == {"LMP401"}
    assert all("large (untrusted)" in finding.path for finding in made.errors)
