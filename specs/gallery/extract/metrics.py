"""The metric of an order: how much of it is as the bakery read it."""

from __future__ import annotations

from typing import Any

from models import Order

from lmprog import Score


def right(order: Order, wanted: dict[str, Any]) -> Score:
    """Return the share of day, hour, name and items that are right; items are right together or not at all."""
    expected = Order.model_validate(wanted)
    wrong = [name for name in ("pickup", "hour", "name") if getattr(order, name) != getattr(expected, name)]
    if {item.product: item.pieces for item in order.items} != {item.product: item.pieces for item in expected.items}:
        wrong.append("items")
    said = ", ".join(f"{name} should be {getattr(expected, name)}" for name in wrong)
    return Score(1 - len(wrong) / 4, feedback=said or None)
