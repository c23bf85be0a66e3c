"""The metric of a notice: it fits the display, and says what it has to."""

from __future__ import annotations

from lmprog import Score


def fit(notice: str, words: list[str], most: int) -> Score:
    """Return the share of the words that the notice says; 0 if it is too long for the display."""
    if len(notice) > most:
        return Score(0.0, feedback=f"{len(notice)} characters; a display holds {most}")
    missing = [word for word in words if word.lower() not in notice.lower()]
    return Score(1 - len(missing) / len(words), feedback=f"say {', '.join(missing)}" if missing else None)
