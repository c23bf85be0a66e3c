"""Metrics of the desk. A metric returns a number, a bool, or lmprog.Score(value, feedback)."""

from __future__ import annotations


def same_topic(topic: str, wanted: str) -> bool:
    """Return whether the topic that the program found is the wanted one."""
    return topic == wanted
