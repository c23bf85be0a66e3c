"""What cannot be read says its place, its cause in plain words, and what to write; labels that are easily confused too."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.compiler import compile_file

HEAD = "lmprog: 1\nname: c\nlms: {m: {model: openai/x}}\nmodules:\n  a:\n    inputs: {t: str}\n    outputs: {l: str}\n"


@pytest.mark.parametrize(
    ("written", "place", "message", "fix"),
    [
        ("    instructions: Note: one word\n", (8, 19), "a colon and a space", 'instructions: "Note: one word"'),
        ("    instructions: %s is it\n", (8, 19), "begins with % needs quotes", 'write "%s is it"'),
        ("    instructions: @all\n", (8, 19), "begins with @ needs quotes", 'write "@all"'),
        ("    instructions: [All] of it\n", (8, 19), "begins with [ needs quotes", 'write instructions: "[All] of it"'),
        ("    instructions: {{ q }} it\n", (8, 19), "begins with { needs quotes", 'write instructions: "{{ q }} it"'),
        (
            "    instructions: 'All' of it\n",
            (8, 19),
            "begins with ' needs quotes",
            "write instructions: \"'All' of it\"",
        ),
        ("    instructions: > Say it\n", (8, 21), "begins in the next line", 'write it there, or write "Say it"'),
        ("    instructions: *bold* words\n", (8, 19), "begins with * is an alias", 'write "*bold* words"'),
        ("   \u00a0instructions: x\n", (8, 4), "U+00A0 (no-break space)", "write a space"),
        ("   \u200binstructions: x\n", (8, 4), "U+200B (zero width space)", "write a space"),
        ("    instructions: x\n---\nmore\n", (9, 1), "a second document", "a file of its own"),
        ('    instructions: "never closed\n', (8, 1), "a quote that opens in this line", "close it"),
        (
            "    instructions: >\n      Rules:\n      - one\n      - two\n",
            (8, 19),
            "`>` makes one line",
            "write | for >",
        ),
        ("    instructions: \u201cx\u201d\n", (8, 19), "curly quotes", 'write "x"'),
        (
            "    prompt:\n      user: |\n        A {{t}} {# note\n",
            (10, 17),
            "a comment that opens with {#",
            "close it with #}",
        ),
        (
            "    prompt:\n      user: |\n        A {{t}} {% if t\n",
            (10, 17),
            "a statement that opens with {%",
            "with %}",
        ),
        ("    prompt:\n      user: |\n        A {{ t\n", (10, 11), "a hole that opens with {{", "close it with }}"),
        (
            "    prompt:\n      user: |\n        As {{'a': 1}}: {{ t }}\n",
            (10, 12),
            "an object of JSON",
            "write {'a': 1}",
        ),
        ("    prompt:\n      user: |\n        Text {t}\n", (10, 14), "single braces is text", "write {{ t }}"),
    ],
)
def test_a_slip_has_its_place_its_cause_and_what_to_write(tmp_path, written, place, message, fix) -> None:
    found = _findings(tmp_path, HEAD + written)
    assert any((f.line, f.column) == place and message in f.message and fix in (f.fix or "") for f in found), found


@pytest.mark.parametrize(
    "text", [">\n      one - two\n      three\n", "|\n      - one\n      - two\n", "it is 5 % or 6@x, a*b"]
)
def test_what_is_written_well_is_left_alone(tmp_path, text) -> None:
    assert not _findings(tmp_path, f"{HEAD}    instructions: {text}\n")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("[A, a, b]", "differ in case"),
        ('["a b", a_b]', "differ in case"),
        ('["", b]', "an empty value"),
        ('["a, b", c]', "by commas"),
        ("[low, high]", None),
        ('["<", ">", "="]', None),
    ],
)
@pytest.mark.parametrize("form", ["{type: {enum: %s}}", "{type: {enum: %s}, about: kind}"])
def test_labels_that_a_reply_does_not_keep_apart(tmp_path, values, said, form) -> None:
    found = _findings(tmp_path, HEAD.replace("l: str", "l: " + form % values) + "    instructions: x\n")
    assert [f.code for f in found] == ([] if said is None else ["LMP209"]), found
    assert said is None or said in found[0].message


def test_json_lists_labels_in_quotes(tmp_path) -> None:
    text = HEAD.replace("l: str", 'l: {type: {enum: ["a, b", c]}}')
    assert not _findings(tmp_path, text + "    format: json\n    instructions: x\n")


def _findings(folder: Path, text: str):
    path = folder / "p.yaml"
    path.write_text(text, encoding="utf-8")
    return compile_file(path).findings
