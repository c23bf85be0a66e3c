"""Fixes for a value that is not of its type: the value that was probably meant."""

from __future__ import annotations

from typing import Any

import pytest

from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, STR, Enum, ListOf, Object, Optional, Type
from lmprog.compiler.types.meant import meant

LABEL = Enum(("refund", "delivery", "other"))


@pytest.mark.parametrize(
    ("value", "kind", "fix"),
    [
        ("refnd", LABEL, "did you mean `refund`?"),
        (" DELIVERY ", LABEL, "did you mean `delivery`?"),
        ("refnd", Optional(LABEL), "did you mean `refund`?"),
        (["other", "delivry"], ListOf(LABEL), "did you mean `delivery`?"),
        ({"a": 1, "b": "othr"}, Object((("a", INT), ("b", LABEL))), "did you mean `other`?"),
        ("something else", LABEL, None),
        ("refund", ListOf(LABEL), 'write ["refund"]'),
        (7, STR, 'write "7"'),
        (True, STR, 'write "true"'),
        ("7", INT, "write 7"),
        ("0.5", FLOAT, "write 0.5"),
        ("half", FLOAT, None),
        ("yes", BOOL, "write true"),
        (None, INT, None),
        ({}, STR, None),
    ],
)
def test_meant(value: Any, kind: Type, fix: str | None) -> None:
    assert meant(value, kind) == fix
