"""The GitHub action: its own steps run here as the runner runs them, on a scratch repository; those of other actions do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.functional.repositories import published, skip_without_index
from tests.functional.test_check_command import MISSPELT, SPEC, WARNED

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
Ended = subprocess.CompletedProcess[str]
TESTED = """
    lmprog: 1
    name: tested
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}"}
    lms: {lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed}}
    modules: {sort: {lm: lm, inputs: {text: str}, outputs: {label: str}}}
    steps: {sort: {module: sort, with: {text: "${{ inputs.text }}"}}}
    tests: {one: {inputs: {text: a}, expect: {label: "<img src=x> | [a](b)"}}}
"""


def steps() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    return found


def inputs(**given: str) -> dict[str, str]:
    """Return the inputs of the action by name, with their defaults."""
    declared = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    return {name: value["default"] for name, value in declared.items()} | {
        name.replace("_", "-"): value for name, value in given.items()
    }


def done(step: dict[str, Any], folder: Path, given: dict[str, str], programs: Path, action: Path) -> Ended:
    """Run one step of a job to its end."""
    runner = next(around for around in (folder, *folder.parents) if (around / ".git").exists()) / "runner"
    runner.mkdir(exist_ok=True)
    known = {"github.action_path": str(action), **{f"inputs.{name}": value for name, value in given.items()}}
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "RUNNER_TEMP": str(runner),
        "GITHUB_OUTPUT": str(runner / "output"),
        "GITHUB_STEP_SUMMARY": str(runner / "summary"),
        **{name: known[value.removeprefix("${{ ").removesuffix(" }}")] for name, value in step.get("env", {}).items()},
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def run(folder: Path, **given: str) -> tuple[int, str]:
    """Run the step that checks, with lmprog as it is installed here; return its status and what it printed."""
    (step,) = (step for step in steps() if step["name"] == "Check")
    ended = done(step, folder, inputs(**given), Path(sys.executable).parent, ROOT)
    return ended.returncode, ended.stdout


@pytest.fixture
def repository(write, tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    write("on: [push]\n", "ci.yml")
    return tmp_path


def track(folder: Path, *files: str) -> None:
    subprocess.run(["git", "add", *files], cwd=folder, check=True)


def test_the_steps_name_inputs_that_there_are() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    text = (ROOT / "action.yml").read_text()
    assert {
        name for name in action["inputs"] if f"inputs.{name} " not in text and f"inputs.{name})" not in text
    } == set()
    assert [step["name"] for step in action["runs"]["steps"] if "uses" in step] == [
        "Set up Python",
        "Keep what pip fetches",
        "Send the findings to code scanning",
    ]


def test_the_steps_in_their_order(repository: Path, write, tmp_path: Path) -> None:
    """Run all steps from an environment with pip alone to the findings."""
    action = published(tmp_path / "action", "v0.1.0")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "python"], check=True)
    write(MISSPELT, "b.yaml")
    track(repository, "b.yaml")
    own = [step for step in steps() if "run" in step]
    assert [step["name"] for step in own] == ["Find pip's cache", "Install lmprog", "Check"]
    ended = [done(step, repository, inputs(), tmp_path / "python" / "bin", action) for step in own]
    skip_without_index(ended[1].stderr)
    assert [each.returncode for each in ended] == [0, 0, 1], ended
    assert ended[2].stdout.startswith("::error file=b.yaml,line=9,col=5,")
    outputs = (repository / "runner" / "output").read_text().splitlines()
    assert [line.partition("=")[0] for line in outputs] == ["folder", "sarif"]


def test_every_program_that_git_tracks_is_checked(repository: Path, write) -> None:
    assert run(repository) == (2, "::error::there is no program to check; name your programs as specs:\n")
    write(WARNED, "a program.yaml")
    write(MISSPELT, "not-tracked/b.yaml")
    track(repository, "ci.yml", "a program.yaml")
    status, out = run(repository)
    assert status == 0 and out.startswith("::warning file=a program.yaml,line=")
    assert run(repository, strict="true")[0] == 1
    status, out = run(repository, specs="not-tracked/*.yaml")
    assert status == 1 and out.startswith("::error file=not-tracked/b.yaml,line=9,col=5,")


def test_paths_start_at_the_root_and_patterns_go_through_folders(repository: Path, write) -> None:
    write(MISSPELT, "inner/deep/b.yaml")
    write(WARNED, "inner/a.yaml")
    status, out = run(repository / "inner", specs="**/*.yaml")
    assert status == 1
    assert out.splitlines()[0] == "::group::inner/a.yaml: 1 finding" and out.count("::endgroup::") == 2
    assert "::error file=inner/deep/b.yaml,line=9" in out
    runner = repository / "runner"
    (log,) = (line.partition("=")[2] for line in (runner / "output").read_text().splitlines())
    results = json.loads(Path(log).read_text())["runs"][0]["results"]
    places = [result["locations"][0]["physicalLocation"]["artifactLocation"] for result in results]
    assert places == [{"uri": f"inner/{name}", "uriBaseId": "%SRCROOT%"} for name in ("a.yaml", "deep/b.yaml")]
    summary = (runner / "summary").read_text()
    assert summary.startswith("### lmprog check: 1 error, 1 warning\n")


def test_tests_run_from_a_recording(repository: Path, write, provider, cli, monkeypatch) -> None:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    provider.otherwise = "<img src=x> | [a](b)"
    spec = write(TESTED, "tested.yaml")
    assert cli("test", spec, "--record", repository / "calls.jsonl")[0] == 0
    provider.otherwise = "another"
    track(repository, "tested.yaml")
    status, out = run(repository, mode="test", recording="calls.jsonl")
    assert (status, out.splitlines()[-1]) == (0, "1 test: 1 passed")
    spec.write_text(spec.read_text().replace("text: a}", "text: b}"))
    status, out = run(repository, mode="test", recording="calls.jsonl")
    assert status == 1 and "holds no reply" in out
    status, out = run(repository, mode="test")
    summary = (repository / "runner" / "summary").read_text()
    assert status == 1 and "<img" not in summary and "| failed |" in summary
    assert run(repository, mode="guess") == (2, "::error::mode is check or test, not guess\n")


def test_a_program_without_findings_has_a_summary_too(repository: Path, write) -> None:
    write(SPEC, "fine.yaml")
    track(repository, "fine.yaml")
    assert run(repository)[0] == 0
    assert (repository / "runner" / "summary").read_text() == "### lmprog check: no findings\n"
    assert run(repository, summary="false")[0] == 0
    assert (repository / "runner" / "summary").read_text().count("###") == 1
