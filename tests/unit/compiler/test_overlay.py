"""Overlays: what is inherited, what replaces, and what an optimizer's change looks like as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lmprog.compiler import compile_file, write_overlay
from lmprog.compiler.yaml.source import Mapping, Source, from_plain

BASE = """\
lmprog: 1
name: desk
inputs: {text: str}
vars: {labels: {file: labels.txt}}
lms: {student: {model: embedded/smollm2-135m}}
modules:
  classify:
    inputs: {text: str}
    outputs: {label: {enum: "${{ vars.labels }}"}}
    instructions: Say which.
    demos: [{text: a, label: billing}]
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("billing\nrefund\n")
    path = tmp_path / "desk.yaml"
    path.write_text(BASE)
    return path


def test_mappings_merge_and_lists_replace(base: Path) -> None:
    folder = base.parent / "tuned"
    folder.mkdir()
    overlay = folder / "desk.tuned.yaml"
    overlay.write_text(
        "lmprog: 1\nextends: ../desk.yaml\nmodules: {classify: {demos: [{text: b, label: refund}, {text: c, label: refund}]}}\n"
    )
    plan = compile_file(overlay).plan
    assert plan is not None
    assert plan.name == "desk"
    assert plan.vars["labels"] == ["billing", "refund"]
    assert plan.modules["classify"].instructions == "Say which."
    assert [demo["text"] for demo in plan.modules["classify"].demos] == ["b", "c"]


def test_findings_stand_in_the_file_they_come_from(base: Path) -> None:
    overlay = base.parent / "over.yaml"
    overlay.write_text("lmprog: 1\nextends: ./desk.yaml\nmodules:\n  classify:\n    demos: [{text: b, label: other}]\n")
    (finding,) = compile_file(overlay).findings
    assert (Path(finding.file).name, finding.line, finding.column) == ("over.yaml", 5, 30)


def test_a_written_overlay_reads_well_and_compiles_to_the_change(base: Path) -> None:
    instructions = "Read the message.\nSay in one word which it is: \"billing\" or 'refund'."
    demos = [
        {"text": "Where is my money?", "label": "refund"},
        {"text": "no", "label": "billing"},
        {"text": "A long message. " * 12, "label": "refund"},
        {"text": "two\nlines: of {{ it }} # here", "label": "billing"},
        {"text": " 12:30 ", "label": "billing"},
    ]
    change = {"modules": {"classify": {"instructions": instructions, "demos": demos}}}
    tuned = {"seed": 0, "scores": {"dev": {"mean": 0.5, "ci95": [0.4, 0.6]}}}
    path = base.parent / "desk.tuned.yaml"
    text = write_overlay(path, base, change, tuned)
    assert text == path.read_text()
    assert text.startswith(
        "lmprog: 1\nextends: ./desk.yaml\n\nmodules:\n  classify:\n    instructions: |-\n      Read the"
    )
    assert "      - {text: 'Where is my money?', label: refund}\n" in text
    assert text.index("modules:") < text.index("tuned:")
    compilation = compile_file(path)
    assert {finding.code for finding in compilation.findings} <= {"LMP803"}
    plan = compilation.plan
    assert plan is not None and plan.tuned is not None
    assert plan.modules["classify"].instructions == instructions
    assert list(plan.modules["classify"].demos) == demos
    candidate = compile_file(base, change=change, data=False).plan
    assert candidate is not None
    assert candidate.digest == plan.digest
    assert plan.tuned["base_digest"] == compile_file(base).plan.digest  # type: ignore[union-attr]


def test_an_overlay_of_a_run_with_overrides_belongs_to_the_file(base: Path) -> None:
    path = base.parent / "desk.tuned.yaml"
    overridden = compile_file(base, overrides={"modules.classify.retry": 2}).plan
    assert overridden is not None
    change = {"modules": {"classify": {"instructions": "Choose."}}}
    write_overlay(path, base, change, {"seed": 0, "base_digest": overridden.digest})
    assert compile_file(path).findings == ()


def test_a_base_that_changed_is_seen(base: Path) -> None:
    path = base.parent / "desk.tuned.yaml"
    write_overlay(path, base, {"modules": {"classify": {"instructions": "Choose."}}}, {"seed": 0})
    assert compile_file(path).findings == ()
    base.write_text(BASE.replace("str}\n    outputs", "str}\n    retry: 1\n    outputs"))
    assert [finding.code for finding in compile_file(path).findings] == ["LMP704"]


def test_set_starts_at_the_working_directory(base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "rows.jsonl").write_text('{"text": "a", "label": "refund"}\n')
    monkeypatch.chdir(elsewhere)
    plan = compile_file(base, overrides={"data.train": "rows.jsonl", "modules.classify.retry": 2}).plan
    assert plan is not None
    assert plan.data["train"].path == elsewhere / "rows.jsonl"
    assert plan.modules["classify"].retry == 2


def test_a_wrong_set_says_so(base: Path) -> None:
    (finding,) = compile_file(base, overrides={"modules.classify.retries": 2}).findings
    assert finding.file == "--set modules.classify.retries"
    (finding,) = compile_file(base, lms={"studnet": "openai/x"}).findings
    assert finding.message == "the program has no LM `studnet`"


@pytest.mark.parametrize(
    "text",
    ["12e4", "1e5", "0x1F", "0o17", "true", "null", "~", "", ".5", "1.", "-3", "no", "12:30", "007", ".inf", "a"],
)
def test_a_text_of_a_demo_is_read_back_as_that_text(tmp_path: Path, text: str) -> None:
    from lmprog.compiler.findings.finding import Report
    from lmprog.compiler.yaml.reader import parse
    from lmprog.compiler.yaml.source import Source

    (tmp_path / "base.yaml").write_text("lmprog: 1\nname: base\n")
    change = {"modules": {"m": {"instructions": text, "demos": [{"a": text, "b": f"{text} x"}]}}}
    written = write_overlay(tmp_path / "t.yaml", tmp_path / "base.yaml", change, {})
    node = parse(Source(tmp_path / "t.yaml", "t.yaml", written, tmp_path), Report())
    assert node is not None and node.plain()["modules"] == change["modules"]


@pytest.mark.parametrize(
    ("place", "below", "over", "laid"),
    [
        (
            "data.train",
            "{hf: none, split: train, private: [a]}",
            "{path: rows.jsonl}",
            {"path": "rows.jsonl", "private": ["a"]},
        ),
        ("data.fractions.from", "{path: rows.jsonl}", "{hf: none, split: train}", {"hf": "none", "split": "train"}),
        (
            "tools.t.mcp",
            "{command: [a], env: {A: b}, tool: t}",
            '{url: "http://x"}',
            {"url": "http://x", "tool": "t"},
        ),
        ("tools.t.mcp", '{url: "http://x", headers: {A: b}}', "{command: [a]}", {"command": ["a"]}),
        (
            "steps.a",
            "{module: a, foreach: x, with: {b: c}}",
            "{tool: t}",
            {"tool": "t", "foreach": "x", "with": {"b": "c"}},
        ),
        (
            "steps.a.steps.b",
            "{module: a, with: {b: c}, needs: [d]}",
            "{value: e}",
            {"value": "e", "needs": ["d"]},
        ),
        ("metrics.m", "{program: p, lms: {a: b}}", "{python: m}", {"python": "m"}),
    ],
)
def test_another_choice_takes_the_lower_one_away_and_what_stands_with_it(
    place: str, below: str, over: str, laid: object
) -> None:
    from lmprog.compiler.yaml.layers import laid_over

    def within(value: object) -> dict[str, Any]:
        for key in reversed(place.split(".")):
            value = {key: value}
        assert isinstance(value, dict)
        return value

    def read(text: str) -> Mapping:
        found = from_plain(within(yaml.safe_load(text)), Source(Path("a.yaml"), "a.yaml", "", Path()))
        assert isinstance(found, Mapping)
        return found

    assert laid_over(read(below), read(over)).plain() == within(laid)
