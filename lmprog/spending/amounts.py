"""Amounts that a budget may limit, as readable text."""

from __future__ import annotations

from collections.abc import Mapping

from lmprog.spending.budget import Spent


def spending(spent: Spent, limits: Mapping[str, float]) -> str:
    """Return the calls, tokens and dollars spent, and what is left of each of the `limits` by name, as a text such as
    `spent 350 calls, 41,000 tokens, $0.0213; left 150 calls`.

    Dollars are shown where any are spent, and the second part where there is a limit.
    """
    parts = [amount("lm_calls", spent.lm_calls), amount("tokens", spent.tokens)]
    if spent.usd:
        parts.append(amount("usd", spent.usd))
    left = [amount(name, max(0.0, limit - getattr(spent, name))) for name, limit in limits.items()]
    return "; ".join(["spent " + ", ".join(parts), *(["left " + ", ".join(left)] if left else [])])


def amount(name: str, value: float) -> str:
    """Return an amount as readable text, such as `$0.0213`, `1.5 minutes`, `150 calls` or `120k tokens`. `name` is the
    name of the limit that a budget may set on it, as `usd` or `lm_calls`."""
    if name == "usd":
        return f"${value:.2f}" if value >= 100 else f"${value:.4f}"
    if name in ("seconds", "minutes"):
        return f"{value:.1f} {name}"
    shown = f"{value:,.0f}" if value < 100_000 else f"{value / 1000:,.0f}k" if value < 1e8 else f"{value / 1e6:,.0f}M"
    return f"{shown} {'calls' if name == 'lm_calls' else name.replace('_', ' ')}"
