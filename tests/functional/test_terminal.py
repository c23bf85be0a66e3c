"""What models, rows and specs say reaches the terminal as text alone: by every verb, on both streams, in pieces too."""

from __future__ import annotations

import json
import re

import pytest

from lmprog.boundary import terminal
from lmprog.cli.main import main

HOSTILE = "a\x1b[2J\x1b]0;t\x07\x9b31m\x7f\u202eb\u2066\u2028c\rd\ud83d é\U0001f600"
ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]"
)


@pytest.mark.parametrize(
    "code", [*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x202A, 0x202E, 0x2066, 0x2069, 0xD800]
)
def test_each_character_that_a_terminal_acts_on_is_an_escape(code: int) -> None:
    shown = terminal.printable(f"a{chr(code)}b")
    assert shown == f"a{chr(code)}b" if chr(code) in "\t\n" else shown == f"a\\u{code:04x}b"
    assert json.loads(f'"{terminal.printable(chr(code))}"', strict=False) == chr(code)


def test_other_text_is_as_it_was() -> None:
    text = "naïve – שלום こんにちは 👩‍👩‍👧\n\tend"
    assert terminal.printable(text) == text


def lmprog(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit):
        main(arguments)
    return "".join(capsys.readouterr())


SPEC = """
    lmprog: 1
    name: hostile
    inputs: {text: str}
    lms: {lm: {model: openai/none, api_base: "http://127.0.0.1:1/v1", limits: {tries: 1}}}
    modules:
      ask: {lm: lm, inputs: {text: str}, outputs: {reply: str}, instructions: Answer.}
    data: {dev: rows.jsonl}
"""


@pytest.mark.parametrize(
    "verb",
    [
        ("render", "SPEC", "--row", "0", "--split", "dev"),
        ("run", "SPEC", "--input", f"text={HOSTILE}"),
        ("run", "SPEC", "--input", f"text={HOSTILE}", "--stream"),
        ("run", "SPEC", "--input", f"{HOSTILE}=x"),
        ("check", HOSTILE.replace("\ud83d", "") + ".yaml"),
        ("explain", HOSTILE),
        (HOSTILE,),
    ],
    ids=lambda verb: verb[0] if verb[0].isalpha() else "verb",
)
def test_no_verb_lets_it_through(write, capsys, verb) -> None:
    write(json.dumps({"text": HOSTILE}) + "\n", "rows.jsonl")
    spec = str(write(SPEC))
    said = lmprog(capsys, *[spec if part == "SPEC" else part for part in verb])
    assert said and not ACTIVE.search(said)


def test_a_console_keeps_its_colours_and_loses_those_of_the_text(capsys) -> None:
    with terminal.guarded():
        console = terminal.console(force_terminal=True, highlight=False)
        console.print(f"[bold]{HOSTILE.replace('[', '(')}[/bold]")
    out = capsys.readouterr().out
    assert "\x1b[1m" in out
    assert not ACTIVE.search(re.sub("\x1b\\[[0-9;]*m", "", out))
