"""Files that nobody writes by hand: control characters, numbers of thousands of digits, templates of one endless line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.compiler import compile_file

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
