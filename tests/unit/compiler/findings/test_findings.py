"""Places, ignore comments, safe edits, and that one mistake never hides another."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.compiler import Finding, SpecError, compile_file
from lmprog.compiler.findings.explain import page, title
from lmprog.compiler.findings.finding import Edit
from lmprog.compiler.findings.fixes import fixed_texts, unified

BARE = """\
lmprog: 1
name: desk
inputs: {text: str}
"""
HEAD = BARE + "lms: {student: {model: embedded/smollm2-135m}}\n"


def findings(tmp_path: Path, text: str) -> tuple[Finding, ...]:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return compile_file(path).findings


def places(tmp_path: Path, text: str) -> list[tuple[str, int, int]]:
    return [(finding.code, finding.line, finding.column) for finding in findings(tmp_path, text)]


def module(prompt: str) -> str:
    return HEAD + "modules:\n  ask:\n    inputs: {text: str}\n    outputs: {answer: str}\n    prompt:\n" + prompt


@pytest.mark.parametrize(
    ("prompt", "line", "column"),
    [
        ('      user: "{{ txet }} {{ text }}"\n', 10, 17),
        ("      user: '{{ text }} é {{ txet }}'\n", 10, 30),
        ("      user: |\n        one {{ text }}\n          two {{ txet }}\n", 12, 18),
        ("      user: |-\n\n        {{ text }}\n\n        two {{ txet }}\n", 14, 16),
        ("      user: >\n        one {{ text }}\n        two {{ txet }}\n", 12, 16),
        ("      user: one {{ text }}\n        two {{ txet }}\n", 11, 16),
        ('      user: "one {{ text }}\n        two {{ txet }}"\n', 11, 16),
    ],
)
def test_places_in_templates(tmp_path: Path, prompt: str, line: int, column: int) -> None:
    assert places(tmp_path, module(prompt)) == [("LMP201", line, column)]


def test_places_in_expressions(tmp_path: Path) -> None:
    text = (
        BARE
        + "outputs:\n  a: ${{ 1 + inputs.txet }}\n  b: >\n    ${{ lower(\n    inputs.txet) }}\n  c: ${{ inputs.text\n"
    )
    assert places(tmp_path, text) == [("LMP201", 5, 14), ("LMP201", 8, 5), ("LMP101", 9, 6)]


def test_an_ignore_silences_its_line(tmp_path: Path) -> None:
    text = BARE + 'outputs: {a: "${{ inputs.text == 3 }}", b: x}  # lmprog: ignore LMP203\n'
    assert findings(tmp_path, text) == ()


def test_an_ignore_that_silences_nothing_is_reported(tmp_path: Path) -> None:
    text = (
        BARE
        + 'outputs: {a: "${{ inputs.text == 3 }}"}  # lmprog: ignore LMP203, LMP204\nvars: {a: 1} # lmprog: ignore\n'
    )
    assert [finding.message for finding in findings(tmp_path, text)] == [
        "the ignore of LMP204 silences nothing",
        "nothing uses the var `a`",
        "the ignore names no code",
    ]


def test_what_leaves_no_program_cannot_be_ignored(tmp_path: Path) -> None:
    text = BARE + 'outputs: {a: "${{ inputs.txet }}"}  # lmprog: ignore LMP201\n'
    assert "LMP201" in {finding.code for finding in findings(tmp_path, text)}


def test_fixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = module('      user: "{{ text }}"\n').replace("prompt:", "promt:").replace("lms:", "lmz:")
    found = findings(tmp_path, text)
    texts = fixed_texts(found)
    assert "-lmz:" in unified(texts) and "+lms:" in unified(texts)
    (tmp_path / "spec.yaml").write_text(texts["spec.yaml"])
    assert compile_file(tmp_path / "spec.yaml").findings == ()


def test_independent_findings_stand_together(tmp_path: Path) -> None:
    text = HEAD + (
        "modules:\n  ask: {lm: studnet, inputs: {text: strr}, outputs: {answer: str}, formt: json}\n"
        "steps:\n  one: {module: ask, with: {text: 3, more: 1}}\n  two: {module: aks, with: {text: '${{ inputs.txt }}'}}\n"
        "outputs: {a: '${{ steps.one.answr }}', b: '${{ steps.two.anything }}'}\n"
    )
    assert [finding.code for finding in findings(tmp_path, text)] == [
        "LMP103",  # studnet
        "LMP101",  # strr
        "LMP101",  # formt
        "LMP203",  # more
        "LMP103",  # aks
        "LMP201",  # inputs.txt
        "LMP203",  # answr; nothing about steps.two.anything, whose module does not exist
    ]


def test_the_error_is_the_text_of_its_findings(tmp_path: Path) -> None:
    found = findings(tmp_path, "lmprog: 1\nnam: x\n")
    text = str(SpecError(found))
    assert "spec.yaml:2:1: error: the program has no key `nam` [LMP101]" in text
    assert "  2 | nam: x\n    | ^^^\n  fix: did you mean `name`?" in text


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "- a\n", "3\n", "\x00", "a: &x [*x]\n", "{{ a }}: b\n", "a: b\n---\nc: d\n"]
)
def test_files_that_are_no_program(tmp_path: Path, text: str) -> None:
    assert [finding.code for finding in findings(tmp_path, text)][:1] == ["LMP101"]


def test_many_aliases_end(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 30)]
    assert "LMP101" in {finding.code for finding in findings(tmp_path, "\n".join(["lmprog: 1", *lines]))}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (finding,) = compile_file(tmp_path / "nothing.yaml").findings
    assert finding.code == "LMP103"
    assert "No such file" in finding.message


DEEP = {
    "lists": "vars: {a: " + "[" * 500 + "]" * 500 + "}\n",
    "many lists": "vars: {a: " + "[" * 500_000,
    "compact lists": "vars:\n  a:\n  " + "- " * 500_000 + "x\n",
    "type": "inputs: {text: '" + "list[" * 500 + "str" + "]" * 500 + "'}\n",
    "expression": "outputs: {a: '${{ " + "not " * 3000 + "true }}'}\n",
    "sum": "outputs: {a: '${{ " + "1 + " * 3000 + "1 }}'}\n",
    "fields": "outputs: {a: '${{ inputs" + ".a" * 3000 + " }}'}\n",
    "template": "modules: {m: {inputs: {}, outputs: {a: str}, prompt: {user: '{{ " + "not " * 3000 + "1 }}'}}}\n",
    "ifs": "modules: {m: {inputs: {}, outputs: {a: str}, prompt: {user: '"
    + "{% if 1 %}" * 300
    + "{% endif %}" * 300
    + "'}}}\n",
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_is_a_finding(tmp_path: Path, name: str) -> None:
    found = findings(tmp_path, "lmprog: 1\n" + DEEP[name])
    assert "LMP101" in {finding.code for finding in found}
    assert any("deep" in finding.message or "cannot be read" in finding.message for finding in found)


def test_fixes_mend_what_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = HEAD + (
        "modules:\n  ask: {lm: studnet, inputs: {text: str}, outputs: {answer: {enum: [yes, 'no']}}}\n"
        "steps:\n  one: {module: aks, with: {txt: '${{ lower(inputs.txet) }}'}}\n"
        "outputs: {a: '${{ steps.one.answr }}'}\n"
    )
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    for _ in range(3):
        for name, mended in fixed_texts(compile_file(path).findings).items():
            Path(name).write_text(mended)
    assert compile_file(path).findings == ()


def test_a_number_with_a_leading_zero_is_left_alone(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, BARE + "vars: {a: 007}\noutputs: {a: '${{ inputs.text }}', b: '${{ vars.a }}'}\n")
    assert (finding.code, finding.severity, finding.edit) == ("LMP102", "warning", None)


@pytest.mark.parametrize("code", ["A" * 300, "LMP\0", "../language", "LMP000", ""])
def test_a_code_that_there_is_not_has_no_page(code: str) -> None:
    assert page(code) is None


def test_of_edits_that_overlap_the_one_that_begins_first_is_made(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("abcdef\nxyz\n")
    edits = [Edit(1, 1, 4, "A"), Edit(1, 3, 6, "B"), Edit(1, 3, 7, "C"), Edit(1, 6, 7, "D"), Edit(2, 1, 2, "E")]
    found = [Finding("LMP101", "error", str(file), 1, 1, str(edit), edit=edit) for edit in reversed(edits)]
    assert fixed_texts(found) == {str(file): "AdeD\nEyz\n"}


def test_a_finding_marks_characters_and_not_bytes(tmp_path: Path) -> None:
    text = BARE + 'outputs: {a: "${{ inputs.größe + 1 }}"}\n'
    (found,) = [finding for finding in findings(tmp_path, text) if finding.code == "LMP201"]
    assert found.length == len("inputs.größe")


def test_the_title_of_a_code_in_small_letters_is_that_of_the_code() -> None:
    assert title("lmp203") == title("LMP203") != "LMP203"


def test_an_unused_ignore_is_placed_at_its_comment(tmp_path: Path) -> None:
    line = 'outputs: {a: "#1", b: "${{ inputs.text }}"}  # lmprog: ignore LMP204'
    assert places(tmp_path, f"{BARE}{line}\n") == [("LMP202", 4, line.index("# lmprog") + 1)]
