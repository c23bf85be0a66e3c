"""The metric of a query: its rows, against those of a query that was written by hand."""

from __future__ import annotations

from typing import Any

from lmprog import Score


def same_rows(rows: list[Any], wanted: Any) -> Score:
    """Return whether the rows are those wanted, in any order."""
    same = sorted(map(repr, rows)) == sorted(map(repr, wanted))
    return Score(float(same), feedback=None if same else f"the rows should be {wanted}, and are {rows[:5]}")
