"""Metrics of answers with citations: the passages that are named, and the facts that are said."""

from __future__ import annotations

from lmprog import Score


def right_sources(sources: list[str], found: list[str], wanted: list[str]) -> Score:
    """Return F1 of the cited passages; 0 if one of them was not even found."""
    if made_up := sorted(set(sources) - set(found)):
        return Score(0.0, feedback=f"cites {', '.join(made_up)}, which it was not shown")
    if not sources and not wanted:
        return Score(1.0)
    hits = len(set(sources) & set(wanted))
    score = 2 * hits / (len(set(sources)) + len(wanted))
    return Score(score, feedback=None if score == 1 else f"cite {', '.join(wanted) or 'nothing'}")


def says(answer: str, facts: list[str]) -> Score:
    """Return the share of the facts that stand in the answer."""
    missing = [fact for fact in facts if fact.lower() not in answer.lower()]
    return Score(1 - len(missing) / len(facts), feedback=f"say {', '.join(missing)}" if missing else None)
