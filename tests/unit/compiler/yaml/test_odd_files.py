"""Files that nobody writes by hand: control characters, numbers of thousands of digits, templates of one endless line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.findings.finding import Report
from lmprog.compiler.yaml.reader import parse, value_of
from lmprog.compiler.yaml.source import Source

PROGRAM = """lmprog: 1
name: p
inputs: {text: str}
lms: {lm: {model: openai/x, api_key: none}}
modules:
  ask: {lm: lm, inputs: {text: str}, outputs: {answer: str}, prompt: {user: "PROMPT"}}
outputs: {o: "${{ steps.ask.answer }}"}
vars: {n: NUMBER}
"""


def findings(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    return [str(finding) for finding in compile_file(path).findings]


@pytest.mark.parametrize("character", ["\0", "\x07", "\x7f"])
def test_a_control_character_is_named_where_it_stands(tmp_path: Path, character: str) -> None:
    (said,) = findings(tmp_path, PROGRAM.replace("PROMPT", f"a{character}"))
    column = PROGRAM.splitlines()[5].index("PROMPT") + 2
    assert f"p.yaml:6:{column}: error: U+{ord(character):04X} is a control character" in said and "escape" in said


@pytest.mark.parametrize(
    "number", ["9" * 5000, "0x" + "f" * 5000, "0o" + "7" * 9000, "-" + "1" * 5000, "1" + "0" * 5000 + ".5"]
)
@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["{{ text }}", "{{ text }} {{ vars.n }}"])
def test_a_number_of_thousands_of_digits_is_no_traceback(tmp_path: Path, number: str, prompt: str) -> None:
    for said in findings(tmp_path, PROGRAM.replace("PROMPT", prompt).replace("NUMBER", number)):
        assert len(said) < 1000


def test_a_template_of_too_many_holes_is_refused(tmp_path: Path) -> None:
    said = findings(tmp_path, PROGRAM.replace("PROMPT", "{{ text }} " * 20_001).replace("NUMBER", "1"))
    assert any("more than 20,000 holes" in one for one in said)


@pytest.mark.parametrize("deep", ["c: " + "[" * 600 + "]" * 600, "".join(" " * depth + "k:\n" for depth in range(600))])
def test_a_deep_file_with_an_alias_is_no_traceback(deep: str) -> None:
    report = Report()
    assert parse(Source(Path("p"), "p", f"a: &x 1\nb: *x\n{deep}", Path()), report) is None
    assert [finding.message for finding in report.findings.values()] == ["the file is nested too deeply to read"]


@pytest.mark.parametrize("text", ["", "{x: 1, x: 2}", "!odd 3", "{{ a }}", "[1"])
def test_a_typed_value_with_a_mistake_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be read as YAML"):
        value_of(text, "here")
