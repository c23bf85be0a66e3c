"""`lmprog schema` and `lmprog diff`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from lmprog.compiler import compile_file
from lmprog.compiler.findings import Report
from lmprog.compiler.source import Source
from lmprog.compiler.yaml_reader import parse

ROOT = Path(__file__).parents[2]
BAD = sorted((ROOT / "tests/specs/bad").glob("*.yaml"))
GOOD = [
    path
    for folder in ("tests/specs/good", "specs", "lmprog/starter")
    for path in sorted((ROOT / folder).glob("*.yaml"))
]
SHAPE = {"LMP101_unknown_key", "LMP101_wrong_shape", "LMP101_newer_version"}
"""Bad specs whose defect is one of shape, so that an editor with the schema shows it."""


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    from click.testing import CliRunner

    from lmprog.cli.main import lmprog

    printed = json.loads(CliRunner().invoke(lmprog, ["schema"]).stdout)
    Draft202012Validator.check_schema(printed)
    return Draft202012Validator(printed)


def document(path: Path) -> object:
    node = parse(Source(path, path.name, path.read_text(), path.parent), Report())
    return node.plain() if node is not None else None


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_the_schema_accepts_every_good_program(schema: Draft202012Validator, path: Path) -> None:
    assert [error.message for error in schema.iter_errors(document(path))] == []


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_the_schema_refuses_defects_of_shape_and_only_those(schema: Draft202012Validator, path: Path) -> None:
    value = document(path)
    refused = value is not None and not schema.is_valid(value)
    assert refused or path.stem not in SHAPE
    if refused:
        assert "LMP101" in {finding.code for finding in compile_file(path).findings}


def test_the_schema_describes_what_an_editor_shows(schema: Draft202012Validator) -> None:
    keys = schema.schema["properties"]
    assert keys["lms"]["additionalProperties"]["properties"]["model"]["description"].startswith("embedded/")
    for key in ("inputs", "modules", "steps", "vars"):
        place = keys[key]
        place = schema.schema["$defs"][place["$ref"].rpartition("/")[2]] if "$ref" in place else place
        assert place["description"]


def test_the_schema_is_the_same_text_each_time(cli) -> None:
    first, second = cli("schema"), cli("schema")
    assert first == second
    assert first[0] == 0 and first[1].endswith("}\n") and first[2] == ""


BASE = """
    lmprog: 1
    name: desk
    lms: {lm: {model: openai/x}}
    modules:
      sort:
        lm: lm
        inputs: {text: str}
        outputs: {label: {enum: [billing, refund]}}
        instructions: Say which.
"""


def test_diff_shows_what_was_tuned(cli, write, tmp_path: Path) -> None:
    base = write(BASE)
    (tmp_path / "adapter").mkdir()
    tuned = write(
        """
        lmprog: 1
        extends: ./program.yaml
        modules:
          sort:
            instructions: Choose the label that fits.
            demos: [{text: money back, label: refund}]
            adapter: {path: ./adapter, sha256: abc}
        tuned:
          scores: {gepa: {mean: 0.5}}
          test: {difference: {mean: 0.25}}
        """,
        "program.tuned.yaml",
    )
    status, out, err = cli("diff", base, tuned)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert "--- a/modules.sort.instructions" in lines
    assert "-Say which." in lines and "+Choose the label that fits." in lines
    assert '+{"text": "money back", "label": "refund"}' in lines
    assert any(line.startswith("+") and line.endswith("adapter abc") for line in lines)
    assert '+    "mean": 0.5' in lines and '+    "mean": 0.25' in lines
    backwards = cli("diff", tuned, base)[1].splitlines()
    assert "+Say which." in backwards


def test_diff_of_equal_programs_is_empty(cli, write) -> None:
    spec = write(BASE)
    status, out, err = cli("diff", spec, spec)
    assert (status, out) == (0, "")
    assert "are equal" in err


def test_diff_of_a_wrong_program(cli, write) -> None:
    spec, wrong = write(BASE), write(BASE.replace("lm: lm", "lm: ml"), "wrong.yaml")
    status, out, err = cli("diff", spec, wrong)
    assert (status, out) == (1, "")
    assert "wrong.yaml:6:" in err and "did you mean `lm`?" in err


def test_diff_runs_no_user_code(cli, write, tmp_path: Path) -> None:
    write(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef m(label): return 1\n", "metrics.py")
    write('{"text": "a"}\n', "dev.jsonl")
    more = """
    data: {dev: dev.jsonl}
    metrics: {m: {python: "./metrics.py:m", with: {label: "${{ outputs.label }}"}}}
"""
    spec = write(BASE + more)
    assert cli("diff", spec, spec)[0] == 0
    assert not (tmp_path / "ran").exists()
