"""The columns of feedback in rows that `lmprog rows` writes, where a split says `feedback: true`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmprog.compiler.plan import Plan

SCORE, COMMENT, ANSWER = "score", "comment", "answer"
FEEDBACK_COLUMNS = (SCORE, COMMENT, ANSWER, "run")
"""The columns that feedback adds to a row; `answer` has the outputs as a person corrected them, `run` the id of the run."""
GOOD = 0.5
"""The score from which on an answer counts as right."""


def has_feedback(plan: Plan, split: str) -> bool:
    """Return whether the program has the split `split`, and its rows have columns of feedback (`feedback: true`)."""
    found = plan.data.get(split)
    return found is not None and found.feedback


def is_accepted(row: Mapping[str, Any], at_least: float = GOOD) -> bool:
    """Return whether the outputs in a row made from an earlier run may be imitated: a person corrected them, or gave them a
    score of `at_least` or more. A row without feedback gives False.
    """
    if row.get(ANSWER) is not None:
        return True
    score = row.get(SCORE)
    return isinstance(score, int | float) and score >= at_least


def said_of(row: Mapping[str, Any]) -> str | None:
    """Return a sentence with the feedback that a person gave on an earlier answer to the row: its score and comment, and a
    corrected answer; None where there is neither a comment nor a correction, even if there is a score."""
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
