"""Hovers, hints and actions: what is shown of a program, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lmprog.compiler.plan import ModuleCall
from lmprog.editing.actions import actions
from lmprog.editing.hints import hints
from lmprog.editing.hover import hover
from lmprog.editing.navigation import definitions, edited, references
from lmprog.editing.session import Session
from tests.unit.lmprog.editing.editor_programs import PROGRAMS, ROOT, at, opened

PROGRAM = """\
lmprog: 1
inputs: {text: {type: str, about: "What the customer wrote.", private: true}, kind: {type: str, default: usual}}
outputs: {label: "${{ steps.ask.label }}", size: "${{ len(inputs.text) }}"}
vars: {mood: kind}
lms: {m: {model: openai/gpt-4.1-mini, trusted: true}}
tools: {find: {search: {corpus: rows.jsonl, text: text, key: text}, result: found}}
modules:
  ask:
    inputs: {text: str}
    outputs: {label: {enum: [good, bad]}}
    instructions: Say which.
    prompt: {system: "{{ instructions }}", user: "Be {{ vars.mood }} ```: {{ text }}"}
    retry: 1
steps:
  look: {tool: find, with: {query: "${{ inputs.text }}"}}
  ask: {module: ask, with: {text: "${{ inputs.text }}"}}
  again:
    repeat: 3
    state: {seen: {type: str, start: a}}
    steps:
      ask_again: {module: ask, with: {text: "${{ state.seen }}"}, when: loop.first}
      size: {value: len(state.seen)}
    next: {seen: {set: "${{ inputs.text }}"}}
data: {dev: rows.jsonl}
metrics: {right: {value: "1.0 if outputs.label == row.label else 0.0"}}
"""


@pytest.fixture
def session(write: Callable[..., Path]) -> tuple[Session, Path]:
    write('{"text": "My box is broken.", "label": "bad"}\n', "rows.jsonl")
    path = write(PROGRAM).resolve()
    return opened(path), path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("inputs: {¦text: {type", ["inputs.text: str", "What the customer wrote.", "private"]),
        ("inputs.¦text }}\"}}\n  ask:", ["inputs.text: str"]),
        ("¦kind: {type", ['default "usual"']),
        ("vars.¦mood", ["vars.mood: str", '"kind"']),
        ("lms: {¦m:", ["openai/gpt-4.1-mini", "trusted", "Context window", "million tokens"]),
        ("tools: {¦find", ["find(query: str, k: int) -> found: list[str]", "search tool"]),
        ("  ¦ask:\n", ["ask(text: str) -> {label: enum[good, bad]}", "row 0 of dev", "Say which.", "My box is broken."]),
        ("module: ¦ask, with: {text: \"${{ inputs", ["ask(text: str)", "Be kind"]),
        ("  ¦look: {", ["steps.look: {found: list[str]}", "tool `find`"]),
        ("  ¦again:", ["steps.again: {seen: str}", "at most `3` times", "At most 6 LM calls"]),
        ("      ¦ask_again", ["label: enum[good, bad]?", "Runs only when `loop.first`", "```: a", "user:"]),
        ("state.¦seen)", ["steps.again.seen: str"]),
        ("steps.ask.¦label", ["ask.label: enum[good, bad]"]),
        ("metrics: {¦right", ["float from 0 to 1", "value metric"]),
        ("data: {¦dev", ["rows.jsonl", "1 rows"]),
        ("outputs: {¦label: \"", ["outputs.label: enum[good, bad]"]),
        ("    ¦retry: 1", ["How often an unreadable reply is asked again", "Default: 0"]),
        ("    ¦instructions: S", ["the only words that an optimizer may write", "Say which.", "My box is broken."]),
        ("¦metrics:", ["The metrics, by id."]),
        ("${{ ¦len(", ["len("]),
        ("label: {¦enum", ["The only values that it can have"]),
    ],
)  # fmt: skip
def test_what_is_shown_of_a_word(session: tuple[Session, Path], words: str, said: list[str]) -> None:
    known, path = session
    plain, offset = at(words)
    assert PROGRAM.count(plain) == 1
    found = hover(known, path, *known.text(path).place(PROGRAM.index(plain) + offset))
    assert found is not None
    for part in said:
        assert part in found.text, found.text


def test_the_mark_of_a_code_block_in_a_prompt_does_not_end_it(session: tuple[Session, Path]) -> None:
    known, path = session
    found = hover(known, path, *known.text(path).place(PROGRAM.index("  ask:\n") + 2))
    assert found is not None and "````text\nBe kind ```: My box" in found.text


def test_a_program_without_rows_shows_what_stands_for_them(write: Callable[..., Path]) -> None:
    text = (
        PROGRAM.replace("data: {dev: rows.jsonl}\n", "")
        .replace("row.label", "'bad'")
        .replace("tools: {", "#")
        .replace("  look:", "  #")
    )
    path = write(text).resolve()
    session = opened(path)
    found = hover(session, path, *session.text(path).place(text.index("  ask:\n") + 2))
    assert found is not None and "Be kind ```: (text)" in found.text and "stand for the inputs" in found.text


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_of_a_program_shows_its_prompt(path: Path) -> None:
    session = opened(path)
    plan = session.plan(path)
    assert plan is not None
    # A step that runs only in some rows may ask nothing in row 0.
    always = {step.action.module for step in plan.steps if isinstance(step.action, ModuleCall) and step.when is None}
    assert always <= {prompt.module for prompt in session.prompts(path)}


def test_hints_are_types_and_the_most_calls(session: tuple[Session, Path]) -> None:
    known, path = session
    lines = known.text(path).lines
    keys = [(lines[hint.line - 1][: hint.column - 1], hint.text) for hint in hints(known, path)]
    found = {(before.strip(" {:").rpartition("{")[2], text) for before, text in keys}
    assert {
        ("steps", "<= 8 LM calls a run"),
        ("look", "-> found: list[str]"),
        ("ask", "-> label: enum[good, bad]"),
        ("ask", "<= 2 LM calls"),
        ("again", "<= 6 LM calls"),
        ("ask_again", "-> label: enum[good, bad]?"),
        ("value", "int"),
    } <= found
    assert any(text == "enum[good, bad]" for _, text in found)  # of the output


def test_hints_follow_the_text_that_is_typed(session: tuple[Session, Path]) -> None:
    known, path = session
    known.texts[path] = "# one line more\n" + PROGRAM.replace("repeat: 3", "repeat: 5")
    assert any(hint.text == "<= 10 LM calls" and hint.line == 18 for hint in hints(known, path))


def test_a_fix_is_an_action(session: tuple[Session, Path]) -> None:
    known, path = session
    wrong = PROGRAM.replace("steps.ask.label", "steps.ask.lable").replace("retry: 1", "retyr: 1")
    known.texts[path] = wrong
    line = wrong[: wrong.index("lable")].count("\n") + 1
    (fix, every) = actions(known, path, line, line)
    assert fix.title == "write `label`" and fix.preferred and every.whole_file
    assert edited(known.text(path), fix.edits) == wrong.replace("lable", "label")
    assert edited(known.text(path), every.edits) == PROGRAM


def test_a_warning_may_be_ignored_where_the_comment_is_none_of_the_text(session: tuple[Session, Path]) -> None:
    known, path = session
    before = known.check(path).compilation.findings
    warned = PROGRAM.replace("vars: {mood: kind}", "vars: {mood: kind, unread: 1}")
    known.texts[path] = warned
    line = warned[: warned.index("unread")].count("\n") + 1
    (ignore,) = actions(known, path, line, line)
    assert ignore.title == "ignore LMP202 on this line"
    known.texts[path] = edited(known.text(path), ignore.edits)
    assert len(known.check(path).compilation.findings) == len(before)
    known.texts[path] = PROGRAM.replace("instructions: Say which.", "instructions: |\n      Say {{ which }}.")
    (marks,) = (one for one in known.check(path).compilation.findings if one.code == "LMP803")
    assert actions(known, path, marks.line, marks.line) == []


def test_nothing_is_said_of_other_files(write: Callable[..., Path]) -> None:
    path = write("services: {web: {image: nginx}}\n", "compose.yaml").resolve()
    assert not Session(imports=False).is_program(path)


def test_a_server_shows_the_tools_of_its_lock_file(write: Callable[..., Path]) -> None:
    specs = Path(__file__).parents[3] / "specs/good"
    write((specs / "mcp_server.lock.json").read_text(), "program.lock.json")
    path = write((specs / "mcp_server.yaml").read_text()).resolve()
    session = opened(path)
    text = session.text(path)
    place = text.place(text.raw.index("tool: shop.find_order") + len("tool: "))
    shown = hover(session, path, *place)
    assert shown is not None and "shop.find_order(order: str): Finds an order." in shown.text
    field = text.place(text.raw.index("steps.found.result") + len("steps.found."))
    result = hover(session, path, *field)
    assert result is not None and "shop.find_order.result: json" in result.text
    assert [text.line(one.line).strip() for one in definitions(session, path, *field)] == ["shop:"]
    # Where it is declared, the agent that has it, and the step that calls one of its tools.
    assert [found.length for found in references(session, path, *place)] == [4, 4, 4]
