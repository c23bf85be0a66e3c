"""Metrics of a translation: the words of the glossary, the marks that must stay, and the likeness to a reference."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from glossary import Term, terms_in

from lmprog import Score


def terms_kept(missing: list[Term], text: str) -> Score:
    """Return the share of the glossary's words in the text that were translated as agreed."""
    wanted = len(terms_in(text))
    said = ", ".join(f"{term['german']} for {term['english']}" for term in missing)
    return Score(1 - len(missing) / wanted if wanted else 1.0, feedback=f"write {said}" if said else None)


def marks_kept(translation: str, text: str) -> bool:
    """Return whether numbers and names of parts in braces stand in the translation as in the text."""
    marks = re.compile(r"\d+|\{\w+\}")
    return sorted(marks.findall(text)) == sorted(marks.findall(translation))


def likeness(translation: str, reference: str) -> float:
    """Return how alike the words of a translation and of the reference are, in their order."""
    return SequenceMatcher(None, translation.split(), reference.split()).ratio()
