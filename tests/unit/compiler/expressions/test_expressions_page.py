"""The pages of the reference name every function of expressions and every type."""

from __future__ import annotations

from pathlib import Path

from lmprog.compiler.expressions.functions import FUNCTIONS
from lmprog.compiler.types.lattice import PRIMITIVES

REFERENCE = Path(__file__).parents[4] / "docs" / "reference"


def test_every_function_is_documented() -> None:
    text = (REFERENCE / "expressions.md").read_text()
    assert [name for name in FUNCTIONS if f"`{name}(" not in text] == []


def test_every_type_is_documented() -> None:
    text = (REFERENCE / "types.md").read_text()
    assert [name for name in PRIMITIVES if f"`{name}`" not in text] == []
