"""The glossary: its entries that a text needs, and those whose German word a translation lacks."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path
from typing import TypedDict


class Term(TypedDict):
    """An English word with the German one that the company has agreed on."""

    english: str
    german: str


@cache
def _glossary() -> list[Term]:
    with Path(__file__).with_name("glossary.csv").open(encoding="utf-8", newline="") as file:
        return [Term(english=row["english"], german=row["german"]) for row in csv.DictReader(file)]


def terms_in(text: str) -> list[Term]:
    """Return the entries whose English word stands in the text, in singular or plural."""
    return [term for term in _glossary() if re.search(rf"\b{term['english']}s?\b", text, re.IGNORECASE)]


def missing_in(translation: str, terms: list[Term]) -> list[Term]:
    """Return the entries whose German word does not stand in the translation, in any form that begins like it."""
    return [term for term in terms if term["german"][:-1].lower() not in translation.lower()]
