"""Plain values for annotated functions."""

from __future__ import annotations

import enum

from lmprog.boundary.python_values import instances_for


class Kind(enum.Enum):
    card = "card"


class Other:
    pass


def pay(kind: Kind, mixed: Kind | Other, other: Other) -> None:
    pass


def test_an_annotation_that_pydantic_does_not_know_leaves_its_argument_as_it_is() -> None:
    given = {"kind": "card", "mixed": "card", "other": 3, "more": 4}
    assert instances_for(pay)(given) == {**given, "kind": Kind.card}
