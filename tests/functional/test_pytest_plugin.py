"""The pytest plugin: recordings beside the tests of a user, in a process of their own as users run them."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from lmprog.pytest_plugin import cassette_of

pytestmark = pytest.mark.slow

PROGRAM = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}", size: "${{ steps.measure.size }}"}
    lms: {lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed, limits: {tries: 1}}}
    tools: {measure: {python: "./tools.py:measure", result: size}}
    modules:
      sort: {lm: lm, inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}, instructions: Sort.}
    steps:
      sort: {module: sort, with: {text: "${{ inputs.text }}"}}
      measure: {tool: measure, with: {text: "${{ inputs.text }}"}}
    metrics:
      good: {program: ./judge.yaml, with: {label: "${{ outputs.label }}"}}
"""
JUDGE = """
    lmprog: 1
    lms: {critic: {model: openai/y, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed}}
    modules: {judge: {lm: critic, inputs: {label: str}, outputs: {score: float}}}
"""
TESTS = """
    import lmprog
    import pytest

    @pytest.mark.parametrize("text", ["money back", "a/b"])
    def test_a_refund(lmprog_program, text):
        program = lmprog_program("../desk.yaml")
        assert program(text=text).outputs["label"] == "refund"
        assert lmprog.evaluate(program, [{"text": text}]).mean == 0.75
"""
PLAIN = """
    import sys

    def test_nothing_of_lmprog_is_imported():
        assert {name for name in sys.modules if name.split(".")[0] == "lmprog"} == {
            "lmprog", "lmprog.version", "lmprog.pytest_plugin"
        }
"""


@pytest.fixture
def project(write, provider, monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    provider.otherwise = lambda text: "0.75" if text == "refund" else "refund"
    write(PROGRAM, "desk.yaml")
    write(JUDGE, "judge.yaml")
    write("def measure(text: str) -> int:\n    return len(text)\n", "tools.py")
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "test_desk.py").write_text(textwrap.dedent(TESTS))
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    plugin = ("-p", "no:lmprog", "-p", "lmprog.pytest_plugin", "-p", "no:cacheprovider", "-p", "no:xdist")
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), "-c", "/dev/null", *plugin, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_test_is_recorded_once_and_replayed_without_models(project: Path, provider) -> None:
    status, said = run(project, "checks")
    assert status == 1 and "there is no recording" in said and "pytest --lmprog=record" in said
    status, said = run(project, "checks", "--lmprog=record")
    assert status == 0, said
    kept = sorted((project / "checks" / "cassettes" / "test_desk").iterdir())
    assert [path.name[:-15] for path in kept] == ["test_a_refund[a_b]", "test_a_refund[money_back]"]
    kept[0] = kept[0].rename(kept[0].with_name("test_a_refund[a_b].jsonl"))  # as an earlier version named it
    kinds = [json.loads(line)["kind"] for line in kept[0].read_text().splitlines()]
    assert sorted(kinds) == ["lm", "lm", "lm", "tool", "tool"]
    provider.otherwise = "nobody is asked"
    (project / "tools.py").write_text("def measure(text: str) -> int:\n    raise ValueError\n")
    status, said = run(project, "checks")
    assert (status, "2 passed" in said) == (0, True), said
    # A changed prompt is no longer what was recorded.
    spec = project / "desk.yaml"
    spec.write_text(spec.read_text().replace("Sort.", "Sort it."))
    status, said = run(project, "checks")
    assert status == 1 and "holds no reply for sort" in said


def test_tests_that_differ_in_replaced_characters_alone_have_recordings_of_their_own() -> None:
    names = [
        "test_a[a b]",
        "test_a[a/b]",
        "test_a[a_b]",
        "test_a[a::b]",
        f"test_a[{'a' * 300}]",
        f"test_a[{'a' * 301}]",
    ]
    nodes = [SimpleNamespace(nodeid=f"checks/test_desk.py::{name}", path=Path("checks/test_desk.py")) for name in names]
    found = [cassette_of(node).name for node in nodes]
    assert len(set(found)) == len(names) and found[2] == "test_a[a_b].jsonl"
    assert max(map(len, found)) < 200 and not any("/" in name for name in found)


def test_a_recording_with_an_outage_is_not_written(project: Path, provider) -> None:
    provider.otherwise = (401, {}, json.dumps({"error": {"message": "who are you"}}))
    status, said = run(project, "checks", "--lmprog=record")
    assert status == 1 and "was not written, since a call had no reply" in said
    assert not (project / "checks" / "cassettes").exists()


def test_other_tests_import_nothing_of_lmprog(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(textwrap.dedent(PLAIN))
    status, said = run(tmp_path, "test_plain.py")
    assert status == 0, said
