"""Forecasts of costs as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lmprog.boundary import terminal
from lmprog.compiler.tokens import USUAL_REPLY
from lmprog.scoring.power import CHANGING, WANTED
from lmprog.spending.estimate import SECONDS_PER_CALL, DevRows, Forecast, Part
from lmprog.spending.fees import TrainingFee
from lmprog.spending.usual import ASSUMED, SHARE

_API = "of an API, as many at a time as may be, within the rate limits of the LMs"
UNBOUNDED = "there is no bound: a `foreach` without `at_most`, over what no row gives, was taken to have one item"


def document(program: str, forecast: Forecast, budget: Mapping[str, float]) -> dict[str, Any]:
    """Return the forecast of `program` as a dictionary, the form that `--dry-run --format json` prints: `program`,
    `most_lm_calls` (by part, those of one name together), `parts` and `in_all` (calls, tokens, cost and seconds, at
    most and as estimated), `assumed`, `dev`, `bounded`, `unknown`, `by_context` (LMs whose prompts nothing else
    bounds), `time` and `budget` (its limits by name, empty where it has none).

    A value that is not known is null.
    """
    calls: dict[str, int] = {}
    for part in forecast.parts:
        calls[part.name] = calls.get(part.name, 0) + part.lm_calls
    return {
        "program": program,
        "most_lm_calls": calls,
        "parts": [_values(*both) for both in zip(forecast.parts, forecast.estimated, strict=True)],
        "in_all": _values(forecast.in_all, forecast.estimated_in_all),
        "assumed": assumed(forecast),
        "dev": forecast.dev.as_json() if forecast.dev is not None else None,
        "bounded": forecast.bounded,
        "unknown": forecast.unknown,
        "by_context": forecast.by_context,
        "time": _basis(forecast),
        "budget": dict(budget),
    }


def text(program: str, forecast: Forecast, budget: Mapping[str, float]) -> None:
    """Print the forecast of `program` (its name) on standard output: a table of the most and one of the estimate, a row for
    each part, then the assumptions behind them, and the limits of `budget` by name.
    """
    from rich.table import Table

    console = terminal.console(highlight=False, markup=False)
    wide = terminal.console(highlight=False, markup=False, width=max(console.width, 120))
    for title, parts, in_all in (
        ("at most", forecast.parts, forecast.in_all),
        ("estimated", forecast.estimated, forecast.estimated_in_all),
    ):
        table = Table(title=f"{program}: {title}, and the time for it", title_justify="left")
        for heading in ("", "LM calls", "prompt tokens", "completion tokens", "USD", "about"):
            table.add_column(heading, no_wrap=True, justify="right" if heading else "left")
        for part in parts:
            table.add_row(*_cells(part))
        table.add_section()
        table.add_row(*_cells(in_all))
        wide.print(table)
    limits = (
        f"the search ends where it would exceed {limit:g} {name.replace('_', ' ')}" for name, limit in budget.items()
    )
    confirmed = [_confirmed(forecast.dev)] if forecast.dev is not None else []
    for line in (
        *confirmed,
        *([] if forecast.bounded else [UNBOUNDED]),
        *forecast.unknown,
        *forecast.by_context,
        *(_training(fee) for fee in forecast.in_all.fees),
        *(f"estimated: {line}" for line in assumed(forecast)),
        f"time: {_basis(forecast)}",
        *limits,
    ):
        console.print(line, soft_wrap=True)


def _training(fee: TrainingFee) -> str:
    """Return a sentence on what the training of an LM by its provider costs at most, and by which price."""
    tokens = "an unknown number of" if fee.most is None else f"{fee.most:,.0f}"
    cost = "" if fee.usd is None else f", ${_dollars(fee.usd)} ({fee.basis})"
    return (
        f"training {fee.lm.id} at its provider: at most {tokens} tokens in all epochs{cost}; its time is not included"
    )


def _confirmed(dev: DevRows) -> str:
    """Return a sentence on the numbers of dev rows that choose and confirm, and the gain that the latter can show."""
    if not dev.confirm:
        return f"dev: all {dev.choose} rows choose and none confirms: no gain will be tested"
    sizes = f"dev: {dev.choose} rows choose, {dev.confirm} confirm"
    if dev.least_gain is None:
        return f"{sizes}, too few to confirm any gain with {WANTED:.0%} power"
    return (
        f"{sizes}: a true gain of {100 * dev.least_gain:.0f} points is confirmed with {WANTED:.0%} power, of right or wrong, "
        f"where {CHANGING:.0%} of the rows change (or as many as the gain)"
    )


def assumed(forecast: Forecast) -> list[str]:
    """Return the assumptions behind the estimate, a sentence each."""
    if forecast.reply is not None:
        replies = f"replies have {forecast.reply:,.0f} tokens, as in the mean in {forecast.measured}"
    else:
        replies = f"replies have 1/{SHARE} of `max_tokens`, at most {USUAL_REPLY} tokens"
    return [replies, *ASSUMED]


def _values(most: Part, estimated: Part) -> dict[str, Any]:
    """Return a part of a forecast as a dictionary: its `name`, the amounts at most, and under `estimate` the usual ones."""
    return {"name": most.name, **_amounts(most), "estimate": _amounts(estimated)}


def _amounts(part: Part) -> dict[str, Any]:
    """Return the amounts of a part as a dictionary, None for those that are not known."""
    return {
        "lm_calls": part.lm_calls,
        "prompt_tokens": _whole(part.prompt_tokens),
        "completion_tokens": _whole(part.completion_tokens),
        "usd": part.usd,
        "seconds": part.seconds,
        **({"training": [fee.as_json() for fee in part.fees]} if part.fees else {}),
    }


def _basis(forecast: Forecast) -> str:
    """Return in words what the time of a forecast is calculated from."""
    if forecast.measured is not None:
        return f"at the rate of the run in {forecast.measured}"
    if forecast.in_all.seconds is None:
        return (
            "unknown for a model in this process until a run of the program is finished, or its spec says lms.ID.speed"
        )
    here = any(ask.lm.runs_here for ask in forecast.in_all.asks)
    behind = any(not ask.lm.runs_here for ask in forecast.in_all.asks)
    bases = [
        *(["by lms.ID.speed for a model in this process, without the passes of training"] if here else []),
        *([f"{SECONDS_PER_CALL:g} seconds a call {_API}"] if behind else []),
    ]
    return "; ".join(bases)


def _cells(part: Part) -> tuple[str, ...]:
    """Return the cells of a part's row in the table."""
    usd = "unknown" if part.usd is None else _dollars(part.usd)
    tokens = ("unknown" if value is None else f"{value:,.0f}" for value in (part.prompt_tokens, part.completion_tokens))
    return part.name, f"{part.lm_calls:,}", *tokens, usd, _duration(part.seconds)


def _dollars(usd: float) -> str:
    """Return an amount of USD with cents; `< 0.01` for one below a cent that is not zero."""
    return "< 0.01" if 0 < usd < 0.01 else f"{usd:,.2f}"


def _duration(seconds: float | None) -> str:
    """Return a time as text in seconds, minutes or hours; `unknown` for None."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _whole(value: float | None) -> int | None:
    """Return a number rounded; None for None."""
    return None if value is None else round(value)
