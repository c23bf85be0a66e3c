"""The metric of the desk: the facts that an answer says."""

from __future__ import annotations

from lmprog import Score


def says(answer: str, facts: list[str]) -> Score:
    """Return the share of the facts that stand in the answer."""
    missing = [fact for fact in facts if fact.lower() not in answer.lower()]
    return Score(1 - len(missing) / len(facts), feedback=f"say {', '.join(missing)}" if missing else None)
