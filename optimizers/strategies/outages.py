"""The limit and the message for scores with too many outages to base a choice on."""

from __future__ import annotations

from lmprog.blame import too_many_outages


def too_many(scored: int, rows: int) -> bool:
    """Return whether outages left so few of the `rows` with a score (`scored` of them) that no candidate may be chosen
    by them: more than the share MAX_OUTAGES (0.05) has none."""
    return too_many_outages(rows - scored, rows)


def complaint(whose: str, scored: int, rows: int) -> str:
    """Return a sentence that a score cannot be used, since only `scored` of the `rows` dev rows have one; it begins with
    `whose`, such as a candidate's name."""
    return f"{whose}: outages left {rows - scored} of {rows} dev rows without a score, so nothing is chosen by it"
