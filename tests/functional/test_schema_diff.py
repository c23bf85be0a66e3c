"""`lmprog schema` and `lmprog diff`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from lmprog.compiler import compile_file
from lmprog.compiler.findings.finding import Report
from lmprog.compiler.yaml.reader import parse
from lmprog.compiler.yaml.source import Source
from tests.functional.shared_cases import case

pytestmark = pytest.mark.slow

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
    keys = schema.schema["$defs"]["program"]["properties"]
    assert keys["lms"]["additionalProperties"]["properties"]["model"]["description"].startswith("embedded/")
    for key in ("inputs", "modules", "steps", "vars"):
        place = keys[key]
        place = schema.schema["$defs"][place["$ref"].rpartition("/")[2]] if "$ref" in place else place
        assert place["description"]


PROGRAM = """
lmprog: 1
name: whole
inputs: {text: str}
lms: {student: {model: openai/a}}
tools: {find: {search: {corpus: a.jsonl, text: body, key: id}}}
modules: {ask: {lm: student, inputs: {text: str}, outputs: {label: str}, prompt: {user: "{{ text }}"}}}
steps: {one: {module: ask, with: {text: "${{ inputs.text }}"}}}
outputs: {label: "${{ steps.one.label }}"}
data: {dev: {path: dev.jsonl}}
metrics: {same: {python: "./m.py:same"}}
optimize: {metric: same, stages: [gepa]}
tests: {gate: {data: dev, metric: same, at_least: 0.5}}
"""
CHANGES = [
    ("name: whole", "name: a whole"), ("{text: str}\nlms", "{text: string}\nlms"), ("{text: str}\nlms", "{text: [a, b]}\nlms"),
    ("{text: str}\nlms", "{text: {type: str, privat: true}}\nlms"), ("{text: str}\nlms", "{text: {enum: [1, 2]}}\nlms"),
    ("{text: str}\nlms", "{a-b: str}\nlms"), ("model: openai/a", "trusted: true"), ("model: openai/a", "model: 3"),
    ("{model: openai/a}", "{model: openai/a, context: 0}"), ("{model: openai/a}", "{model: openai/a, limits: {timeout: 0}}"),
    ("{model: openai/a}", "{model: openai/a, price: {out: 1}}"), ("search: {corpus", "python: 'a:b', search: {corpus"),
    ("search: {corpus: a.jsonl, text: body, key: id}", "timeout: 3"), ("text: body, ", ""),
    ("search: {corpus", "sarch: {corpus"),
    ("search: {corpus: a.jsonl, text: body, key: id}", "mcp: {command: a, url: b, tool: c}"),
    ("search: {corpus: a.jsonl, text: body, key: id}", "mcp: {url: b, tool: c, env: {A: b}}"),
    ("search: {corpus: a.jsonl, text: body, key: id}", "http: {method: GET}"),
    ("search: {corpus: a.jsonl, text: body, key: id}", "python: nothing"), ("inputs: {text: str}, outputs", "outputs"),
    ('prompt: {user: "{{ text }}"}', "prompt: {system: a}"), ('prompt: {user: "{{ text }}"}', "format: yaml"),
    ('prompt: {user: "{{ text }}"}', "retry: -1"), ('prompt: {user: "{{ text }}"}', "demos: {text: a}"),
    ("module: ask, with", "with"), ("module: ask, with", "module: ask, tool: find, with"),
    ("module: ask, with", "module: ask, state: {a: {type: str, start: a}}, with"), ("module: ask, with", "value: 1, with"),
    ("module: ask, with", "module: ask, lms: {a: student}, with"), ("module: ask, with", "module: ask, timeout: 0, with"),
    ("module: ask, with", "module: ask, retry: 1.5, with"), ("module: ask, with", "module: ask, whn: a, with"),
    ("steps: {one: {module: ask", "steps: {one: {repeat: 3, next: {a: {set: 1, append: 2}}, module: ask"),
    ("outputs: {label: \"${{", "description: {label: \"${{"), ("{path: dev.jsonl}", "{limit: 3}"),
    ("{path: dev.jsonl}", "{path: dev.jsonl, split: train}"), ('python: "./m.py:same"', "python: same"),
    ('python: "./m.py:same"', "range: [0, 1]"), ('python: "./m.py:same"', 'value: "1.0", lms: {a: student}'),
    ("stages: [gepa]", "stages: []"), ("metric: same, stages", "stages"), (", at_least: 0.5", ""),
    ("at_least: 0.5", "at_least: 0.5, inputs: {text: a}"),
]  # fmt: skip
"""Slips of the kind that an editor shows while they are typed."""


def parsed(text: str) -> object:
    path = Path("changed.yaml")
    node = parse(Source(path, path.name, text, Path()), Report())
    return node.plain() if node is not None else None


def test_a_whole_program_fits(schema: Draft202012Validator) -> None:
    assert [error.message for error in schema.iter_errors(parsed(PROGRAM))] == []


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_the_schema_refuses_what_it_can(schema: Draft202012Validator, tmp_path: Path, old: str, new: str) -> None:
    assert old in PROGRAM
    text = PROGRAM.replace(old, new, 1)
    assert not schema.is_valid(parsed(text))
    path = tmp_path / "changed.yaml"
    path.write_text(text)
    assert "LMP101" in {finding.code for finding in compile_file(path, data=False).findings}


def test_an_overlay_may_lack_what_its_base_has(schema: Draft202012Validator) -> None:
    overlay = "lmprog: 1\nextends: ./a.yaml\nmodules: {ask: {demos: []}}\ntools: {find: {timeout: 3}}\n"
    assert schema.is_valid(parsed(overlay))
    assert not schema.is_valid(parsed(overlay.replace("demos: []", "demo: []")))


@pytest.mark.parametrize(
    "name", ["bad_type", "lm_missing_model", "no_user", "no_verb", "timeout0", "two_tools", "two_verbs"]
)
def test_the_schema_refuses_the_shared_cases(schema: Draft202012Validator, name: str) -> None:
    assert not schema.is_valid(document(case("check", "schema", f"{name}.yaml")))


def test_an_editor_is_offered_the_keys_that_fit(schema: Draft202012Validator) -> None:
    steps = schema.schema["$defs"]["steps"]["additionalProperties"]["oneOf"]
    offered = {kind["required"][0]: set(kind["properties"]) for kind in steps}
    assert set(offered) == {"module", "tool", "program", "value", "repeat"}
    assert "foreach" in offered["module"] and not {"foreach", "with", "state"} & offered["value"]
    assert {"state", "next", "steps"} <= offered["repeat"]
    assert steps[0]["properties"]["retry"]["description"].endswith("Default: 0.")


def test_ajv_takes_the_schema_in_strict_mode(schema: Draft202012Validator, tmp_path: Path) -> None:
    """Where node and ajv are installed, as in the folder that LMPROG_AJV names."""
    node, modules = shutil.which("node"), os.environ.get("LMPROG_AJV", "")
    if node is None or not (Path(modules) / "ajv").is_dir():
        pytest.skip("needs node, and LMPROG_AJV=path/to/node_modules with ajv in it")
    (tmp_path / "schema.json").write_text(json.dumps(schema.schema))
    script = (
        'const Ajv = require("ajv/dist/2020"); const schema = require(process.argv[1]);'
        "new Ajv({strict: true}).compile(schema)"
    )
    done = subprocess.run(
        [node, "-e", script, str(tmp_path / "schema.json")],
        env={**os.environ, "NODE_PATH": modules},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


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
            demos: [{text: "money back\\nat once", label: refund}]
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
    start = lines.index("+- text: |-")
    assert lines[start + 1 : start + 4] == ["+    money back", "+    at once", "+  label: refund"]
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
