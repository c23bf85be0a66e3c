"""When two values are the same for a test."""

from __future__ import annotations

from typing import Any

import pytest

from lmprog.scoring.testing import differences, equal


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("a", "a", True),
        ("a", "a ", False),
        (1, 1.0, True),
        (0.3, 0.1 + 0.2, True),
        (0.3, 0.3001, False),
        (1, True, False),
        (False, 0, False),
        (True, True, True),
        ("1", 1, False),
        ([1, 0.3], [1, 0.1 + 0.2], True),
        ([1], [1, 2], False),
        ([1, 2], [2, 1], False),
        ({"a": [True]}, {"a": [True]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (None, None, True),
        (None, 0, False),
    ],
)
def test_equality(expected: Any, found: Any, same: bool) -> None:
    assert equal(expected, found) is same


def test_only_what_is_expected_is_compared() -> None:
    assert differences({"a": 1}, {"a": 1, "b": 2}) == []
    assert differences({"a": 1, "b": "x"}, {"a": 2}) == ["a: expected 1, got 2", "b: expected 'x', got None"]
    assert differences({"a": "x" * 300}, {"a": ""})[0].endswith("..., got ''")
