"""No feature fails on text that is half typed, cut anywhere or damaged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmprog.editing.actions import actions
from lmprog.editing.completion import completions
from lmprog.editing.hints import hints
from lmprog.editing.hover import hover
from lmprog.editing.navigation import CannotRename, definitions, references, renamed
from lmprog.editing.session import Session
from tests.unit.lmprog.editing.editor_programs import PROGRAMS, ROOT

WHOLE = ROOT / "tests/specs/good/whole_language.yaml"
MULTIHOP = ROOT / "specs/multihop.yaml"
PIECES = st.sampled_from(
    [
        *(
            "${{ ",
            "}}",
            "{{",
            "{% if ",
            "{",
            "}",
            "[",
            "]",
            '"',
            "'",
            ": ",
            "- ",
            "\n",
            "\n  ",
            "\t",
            "#",
            "|\n",
            ">\n",
        ),
        *("&a ", "*a", "!!int ", "? ", "steps.", "inputs.", "é😀", "\u2028", "\r\n", "\x00", "\ufeff"),
        *("lmprog: 1\n", "extends: ./x.yaml\n"),
    ]
)


def at_the_cursor(session: Session, path: Path, offset: int) -> None:
    """Call the features that are called while somebody types."""
    place = session.text(path).place(offset)
    completions(session, path, *place)
    hover(session, path, *place)
    definitions(session, path, *place)


def every_feature(session: Session, path: Path, offset: int) -> None:
    """Call all features at a place of a text."""
    session.check(path)
    hints(session, path)
    actions(session, path, 1, 10_000)
    at_the_cursor(session, path, offset)
    place = session.text(path).place(offset)
    references(session, path, *place)
    with suppress(CannotRename):
        renamed(session, path, *place, "other")


def cut(path: Path, every: int, call: Callable[[Session, Path, int], None]) -> None:
    """Call features on the beginnings of a program, at their ends."""
    text = path.read_text(encoding="utf-8")
    session = Session(imports=False)
    session.check(path)  # what an editor knows of the program before somebody types on
    for end in range(0, len(text) + 1, every):
        session.texts[path] = text[:end]
        call(session, path, end)


def test_a_program_may_be_cut_anywhere() -> None:
    cut(MULTIHOP, 53, every_feature)


SMALL = """\
lmprog: 1
inputs: {text: str}
outputs: {label: "${{ steps.ask.label }}"}
lms: {m: {model: openai/none}}
modules:
  ask:
    inputs: {text: str}
    outputs: {label: {enum: [good, bad]}}
    prompt:
      user: |
        Judge {{ text }}
steps:
  ask: {module: ask, with: {text: "${{ inputs.text }}"}}
  turn:
    repeat: {until: state.n > 2, at_most: 3}
    state: {n: {type: int, start: 0}}
    next: {n: {set: "${{ state.n + 1 }}"}}
"""


@pytest.mark.slow
def test_every_feature_works_at_every_character_of_a_program(write: Callable[..., Path]) -> None:
    cut(write(SMALL).resolve(), 1, every_feature)


@pytest.mark.slow
@pytest.mark.parametrize("path", [MULTIHOP, WHOLE], ids=lambda path: path.stem)
def test_programs_may_be_cut_anywhere(path: Path) -> None:
    cut(path, 11, at_the_cursor)
    cut(path, 211, every_feature)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Path, str, int]:
    """Return a program with pieces put into its text, or cut out of it, and a place in it."""
    path = draw(st.sampled_from(PROGRAMS))
    text = path.read_text(encoding="utf-8")
    place = 0
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text)))
        piece = draw(st.one_of(PIECES, st.text(max_size=6)))
        text = text[:place] + piece + text[place + draw(st.integers(0, 30)) :]
        place += len(piece)
    return path, text, min(place, len(text))


def try_damaged(case: tuple[Path, str, int]) -> None:
    path, text, place = case
    session = Session(imports=False)
    session.texts[path] = text
    every_feature(session, path, place)


@given(damaged())
@settings(max_examples=8)
def test_a_program_may_be_damaged(case: tuple[Path, str, int]) -> None:
    try_damaged(case)


@pytest.mark.slow
@given(damaged())
@settings(max_examples=200)
def test_programs_may_be_damaged_in_many_ways(case: tuple[Path, str, int]) -> None:
    try_damaged(case)


@given(
    st.text(alphabet=st.sampled_from("lmprog: 1\n-[]{}\"'|>#&*!%@`.$ \t\r\u2028😀"), max_size=60), st.integers(0, 60)
)
def test_any_text_may_be_typed(text: str, place: int) -> None:
    path = Path("/nowhere/typed.yaml")  # only in the editor
    session = Session(imports=False)
    session.texts[path] = "lmprog: 1\n" + text
    every_feature(session, path, place)


def test_the_names_of_a_program_stay_while_one_line_is_typed(write: Callable[..., Path]) -> None:
    text = MULTIHOP.read_text(encoding="utf-8")
    path = write(text).resolve()
    session = Session(imports=False)
    session.texts[path] = text.replace("    module: second\n", '    module: "\n    with: {a: [\n')
    assert session.wrong(path) is not None
    names = {one.symbol for one in session.mentions(path)}
    assert {("steps", "ask_first"), ("metrics", "recall"), ("modules", "first")} <= names
