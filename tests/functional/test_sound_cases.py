"""The one-liners and small specs that passed check and failed to run: each is refused now, or runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmprog.compiler import Compilation, compile_file
from lmprog.compiler.types.samples import combinations, samples
from lmprog.lms.fake import FakeLM
from lmprog.runtime.program import Program
from lmprog.runtime.resources import Resources
from tests.functional.shared_cases import case

pytestmark = pytest.mark.slow

INPUTS = {
    "text": "str", "n": "int", "xs": "list[str]", "o": "str?", "obj": "json", "kind": {"enum": ["a", "b"]},
    "rec": {"a": "str", "b": "bool", "c": "str?"}, "recs": "list[{k: str}]",
}  # fmt: skip
MORE_INPUTS = INPUTS | {
    "f": "float", "b": "bool", "ns": "list[int]", "ol": "list[str]?", "lo": "list[str?]", "msgs": "messages",
    "kind": {"enum": ["x", "y"]}, "rec": {"a": "str", "b": "list[str]", "c": "str?"},
}  # fmt: skip
BESIDE = {"LMP202", "LMP206"}
"""Findings about what is unread or always the same, which say nothing of what fails."""


def program(inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"lmprog": 1, "name": "one", "inputs": inputs, **more}


def of_template(text: str) -> dict[str, Any]:
    ask = {"lm": "m", "inputs": INPUTS, "outputs": {"answer": "str"}, "prompt": {"user": text}}
    return program(INPUTS, lms={"m": {"model": "embedded/smollm2-135m"}}, modules={"ask": ask})


def of_expression(text: str) -> dict[str, Any]:
    named = {"labels": ["a", "b"], "lim": 3, "zero": 0, "s": "abc", "f": 1.5}
    outputs = {"answer": "${{ steps.v.value }}"}
    return program(MORE_INPUTS, vars=named, steps={"v": {"value": text}}, outputs=outputs)


def failures(compiled: Compilation) -> list[str]:
    """Run the program on samples of its inputs, and return the errors."""
    plan = compiled.plan
    assert plan is not None
    made = Program(plan, {id: FakeLM() for id in plan.lms}, lambda change: plan, Resources(dry_run=True))
    # What a json value holds is looked at when it runs, as `int(inputs.obj.a)`.
    choices = {name: samples(field.type) for name, field in plan.inputs.items()} | {"obj": [{"a": 1}]}
    values = combinations(choices)
    found = [asyncio.run(made.run(chosen)).error for chosen in islice(values, 30)]
    return [str(error) for error in found if error is not None]


def lines(name: str) -> list[tuple[str, str]]:
    rows = [line.split("\t") for line in case("check", name).read_text().splitlines()]
    return [(row[0], row[1]) for row in rows if len(row[1]) < 95]  # The list cuts longer ones.


@pytest.mark.parametrize(("name", "around"), [("templates.tsv", of_template), ("expressions.tsv", of_expression)])
def test_what_passes_check_runs_and_what_runs_passes(name: str, around: Any, tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    wrong = []
    for kind, text in lines(name):
        path.write_text(yaml.safe_dump(around(text), allow_unicode=True, sort_keys=False), encoding="utf-8")
        compiled = compile_file(path)
        codes = [finding.code for finding in compiled.findings if finding.code not in BESIDE]
        if not codes and failures(compiled):
            wrong.append(f"{text} passes check and fails: {failures(compiled)[0]}")
        # A line that ran on the one input that it was tried with may fail on others of the declared types.
        if kind == "OK" and codes and compiled.plan is not None and not failures(compiled):
            wrong.append(f"{text} runs, and check says {codes}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", ["autoescape", "bigint", "head_error", "map_nosuch", "range_printed"])
def test_templates_that_cannot_be_rendered_are_refused(file: str) -> None:
    compiled = compile_file(case("check", "templates", f"{file}.yaml"))
    assert compiled.plan is None


@pytest.mark.parametrize("file", ["templates/field_guard.yaml", "literal_else.yaml"])
def test_what_was_refused_wrongly_passes(file: str) -> None:
    assert compile_file(case("check", *file.split("/"))).findings == ()


def test_a_bound_that_has_no_value_is_refused() -> None:
    assert "LMP208" in {finding.code for finding in compile_file(case("check", "bound_div0.yaml")).errors}


@pytest.mark.parametrize(("file", "output"), [("inf_run.yaml", 1e999), ("surrogate_run.yaml", "\ud800x")])
def test_what_is_printed_is_json(file: str, output: Any) -> None:
    command = [
        sys.executable,
        "-c",
        "from lmprog.cli.main import main; main()",
        "run",
        str(case("check", file)),
        "--input",
        "t=x",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert json.loads(done.stdout, parse_constant=refuse) == {"a": output}
