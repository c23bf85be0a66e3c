"""Rows of the data splits that a program names, and the metric that it is scored by."""

from __future__ import annotations

from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.compiler.rows.reading import read_rows
from lmprog.errors import UsageError


def rows_of(plan: Plan, split: str) -> list[dict[str, Any]]:
    """Return the rows of a data split (`train`, `dev`, `test`) as mappings, chosen, limited and with columns renamed as
    the spec says (`read_rows`).

    Raises UsageError where the program has no such split, and RowsError where its file cannot be read.
    """
    if split not in plan.data:
        there = f"say --split {next(iter(plan.data))}, or " if plan.data else ""
        known = ", ".join(plan.data) or "none"
        raise UsageError(f"{plan.name} has no data split {split!r} (it has: {known}); {there}name it under `data:`")
    return read_rows(plan.data[split])


def default_metric(plan: Plan) -> str:
    """Return the id of the metric that the program's `optimize` names, without `optimize` that of its only metric; raise
    UsageError where there is none, or several."""
    if plan.optimize is not None:
        return plan.optimize.metric
    if len(plan.metrics) == 1:
        return next(iter(plan.metrics))
    raise UsageError(f"say by which metric {plan.name} is scored: {', '.join(plan.metrics) or 'it has none'}")
