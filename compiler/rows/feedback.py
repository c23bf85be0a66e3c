"""The columns of feedback in rows that `lmprog rows` writes, where a split says `feedback: true`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmprog.compiler.plan import Plan

SCORE, COMMENT, ANSWER = "score", "comment", "answer"
FEEDBACK_COLUMNS = (SCORE, COMMENT, ANSWER, "run")
GOOD = 0.5
"""The score from which an answer counts as right."""


def has_feedback(plan: Plan, split: str) -> bool:
    """Return whether the rows of a split of the program have feedback."""
    found = plan.data.get(split)
    return found is not None and found.feedback


def is_accepted(row: Mapping[str, Any], at_least: float = GOOD) -> bool:
    """Return whether the outputs in a row made from an earlier run may be imitated: a person corrected them, or scored them
    `at_least`.
    """
    if row.get(ANSWER) is not None:
        return True
    score = row.get(SCORE)
    return isinstance(score, int | float) and score >= at_least


def said_of(row: Mapping[str, Any]) -> str | None:
    """Return in words the feedback that people gave on an earlier answer to the row; None where there is none."""
    score, comment, answer = (row.get(name) for name in (SCORE, COMMENT, ANSWER))
    if comment is None and answer is None:
        return None
    of = "An earlier answer" if answer is None else f"The earlier answer {_values(answer)}"
    given = f" was scored {score:g} by a person (0 is wrong, 1 is right)" if isinstance(score, int | float) else ""
    given = given or (" was corrected by a person" if answer is not None else " was looked at by a person")
    return f"{of}{given}" + (f", who said: {comment}" if comment else ".")


def _values(answer: Any) -> str:
    return (
        ", ".join(f"{name} = {value}" for name, value in answer.items()) if isinstance(answer, Mapping) else str(answer)
    )
