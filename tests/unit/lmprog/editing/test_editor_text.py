"""Positions in a text: of the compiler, which counts characters by the lines of YAML, and of editors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.editing.text import Text, Units

TEXTS = st.text(alphabet=st.sampled_from("ab é😀𝛼\n\r\u2028\u0085\t"), max_size=40)


@given(TEXTS, st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_every_offset_comes_back_from_an_editors_position(raw: str, units: Units) -> None:
    text = Text(raw)
    for offset in range(len(raw) + 1):
        if raw[offset - 1 : offset + 1] == "\r\n":
            continue  # between the two characters of one line end there is no position
        assert text.from_editor(*text.to_editor(offset, units), units) == offset
        assert text.offset(*text.place(offset)) == offset


@given(TEXTS, st.integers(-2, 50), st.integers(-2, 50))
def test_no_position_is_too_far(raw: str, line: int, column: int) -> None:
    text = Text(raw)
    assert 0 <= text.from_editor(line, column) <= len(raw)
    assert 0 <= text.offset(line, column) <= len(raw)


@pytest.mark.parametrize(
    ("units", "position"), [("utf-8", (1, 7)), ("utf-16", (1, 5)), ("utf-32", (1, 4))], ids=lambda value: str(value)
)
def test_characters_beyond_the_first_plane_count_as_the_editor_counts(units: Units, position: tuple[int, int]) -> None:
    text = Text("a\r\n  😀: x\r\n")
    offset = text.raw.index("x") - 1
    assert text.to_editor(offset, units) == position
    assert text.place(offset) == (2, 5)


def test_lines_of_yaml_are_more_than_those_of_editors() -> None:
    text = Text("a: x\u2028b: y\nc: z")
    assert text.place(text.raw.index("b")) == (2, 1)
    assert text.to_editor(text.raw.index("b")) == (0, 5)
    assert text.to_editor(text.raw.index("c")) == (1, 0)
