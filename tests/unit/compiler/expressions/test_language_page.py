"""The language page names every function of expressions."""

from __future__ import annotations

from pathlib import Path

from lmprog.compiler.expressions.functions import FUNCTIONS

PAGE = Path(__file__).parents[4] / "docs" / "language.md"


def test_every_function_is_documented() -> None:
    text = PAGE.read_text()
    assert [name for name in FUNCTIONS if f"`{name}(" not in text] == []
