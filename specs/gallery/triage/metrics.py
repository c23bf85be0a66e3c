"""Metrics of the triage: the right team, and the messages that the small model sorts by itself."""

from __future__ import annotations


def right(team: str, wanted: str) -> bool:
    """Return whether the message goes to the team that it belongs to."""
    return team == wanted


def by_itself(escalated: bool) -> bool:
    """Return whether the large model was not asked."""
    return not escalated
