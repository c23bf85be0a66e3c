"""The metric of a list of decisions: which of those that were taken stand in it, by their key words."""

from __future__ import annotations

from lmprog import Score


def found(decisions: list[str], wanted: list[list[str]]) -> Score:
    """Return F1 of the decisions; one is found if some sentence has all of its key words."""
    sentences = [sentence.lower() for sentence in decisions]
    missing = [words for words in wanted if not any(all(word in text for word in words) for text in sentences)]
    spare = [text for text in sentences if not any(all(word in text for word in words) for words in wanted)]
    hits = len(wanted) - len(missing)
    if not wanted and not decisions:
        return Score(1.0)
    said = [f"list the decision on {', '.join(words)}" for words in missing]
    said += [f"{text!r} is no decision" for text in spare]
    return Score(2 * hits / (2 * hits + len(missing) + len(spare)), feedback="; ".join(said) or None)
