"""Forecasts of a run's cost: the worst case and an estimate of LM calls, tokens, money and time, part by part."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lmprog.compiler import model_table
from lmprog.compiler.bounds import bounds
from lmprog.compiler.plan import LM, Plan
from lmprog.spending.fees import TrainingFee
from lmprog.spending.worst_case import CallBound

SECONDS_PER_CALL = 2.0
"""Assumed seconds of a call of an LM behind an API, where no run was measured."""


@dataclass(frozen=True)
class Part:
    """The forecast of one part of a run, such as a stage: its name, the LM calls of each call site (`asks`, at most or as
    estimated), its time in seconds (None: unknown), and the fees of training by providers.
    """

    name: str
    asks: Sequence[CallBound]
    seconds: float | None = None
    fees: Sequence[TrainingFee] = ()
    """Costs of training by providers."""

    @property
    def lm_calls(self) -> int:
        """The number of LM calls, rounded to a whole one."""
        return round(sum(ask.calls for ask in self.asks))

    @property
    def prompt_tokens(self) -> float | None:
        """The prompt tokens of all calls; None where unknown."""
        return _sum(None if ask.prompt is None else ask.calls * ask.prompt for ask in self._asked)

    @property
    def completion_tokens(self) -> float | None:
        """The reply tokens of all calls; None where unknown."""
        return _sum(None if ask.reply is None else ask.calls * ask.reply for ask in self._asked)

    @property
    def usd(self) -> float | None:
        """The cost of all calls and trainings in US dollars; None where unknown."""
        return _sum([*(ask.usd for ask in self._asked), *(fee.usd for fee in self.fees)])

    @property
    def _asked(self) -> list[CallBound]:
        return [ask for ask in self.asks if ask.calls]


@dataclass(frozen=True)
class DevRows:
    """The numbers of dev rows that choose a candidate and that confirm it, and the smallest gain of the score that the rows
    can confirm (None: no gain), for a forecast.
    """

    choose: int
    confirm: int
    least_gain: float | None
    power: float
    """The probability that such a gain is confirmed."""
    changing: float
    """The share of rows whose score a candidate is taken to change."""

    def as_json(self) -> dict[str, Any]:
        """Return the numbers as a dictionary: `choose`, `confirm`, `least_gain`, `power` (the probability that such
        a gain is confirmed) and `changing` (the share of rows whose score a candidate is taken to change)."""
        return asdict(self)


@dataclass(frozen=True)
class Forecast:
    """The worst case (`parts`) and the estimate (`estimated`) of a run, part by part.

    `measured` is the folder of the earlier run from which times and `reply`, the mean tokens of a reply, are taken (None:
    there is none). `bounded` is False where a `foreach` without `at_most` is taken to have one item.
    """

    parts: Sequence[Part]
    """The parts with the most calls and tokens."""
    estimated: Sequence[Part]
    """The same parts with the estimated calls and tokens."""
    reply: float | None
    """The mean tokens of a reply in the run `measured`, by which replies are estimated; None where none is known."""
    bounded: bool
    """False where a `foreach` without `at_most` is taken to have one item."""
    measured: Path | None
    dev: DevRows | None = None
    """Numbers of dev rows that choose and confirm; None where the run is no optimization."""

    @property
    def in_all(self) -> Part:
        """The sum of all parts in the worst case, as a part named `in all`; an amount is None where that of a part is."""
        return _in_all(self.parts)

    @property
    def estimated_in_all(self) -> Part:
        """The sum of the estimates of all parts (stages and scorings), as a part named `in all`; an amount is None
        where that of a part is."""
        return _in_all(self.estimated)

    @property
    def unknown(self) -> list[str]:
        """The reasons why the tokens or the cost of the worst case are unknown, one sentence each, with what to write
        in the spec; empty where both are known, even if the time is not."""
        found: dict[str, None] = {}
        for ask in self.in_all.asks:
            if ask.calls:
                found.update(dict.fromkeys(_unknown(ask)))
        found.update({fee.unknown: None for fee in self.in_all.fees if fee.unknown is not None})
        return list(found)

    @property
    def by_context(self) -> list[str]:
        """A sentence for each LM whose prompts nothing bounds but its context window, which the worst case then takes; empty
        where all others are bounded."""
        found: dict[str, None] = {}
        for ask in self.in_all.asks:
            if ask.calls and ask.by_context and ask.prompt is not None:
                found[
                    f"prompts of {ask.lm.id!r} that nothing bounds, as of an agent or with what a step gives, are taken to "
                    f"fill its context, {ask.prompt:,.0f} tokens; lms.{ask.lm.id}.context makes that less"
                ] = None
        return list(found)


def timed(plan: Plan, concurrency: int, parts: Iterable[Part], folders: Iterable[Path] = ()) -> Forecast:
    """Return the forecast of the `parts` of an optimization or evaluation of `plan`, each with the seconds that it may take,
    in the worst case and as estimated.

    `concurrency` is the number of rows that run at a time. `folders` are those of earlier runs, the newest last; the newest
    with a report that can be read gives calls per second and lengths of replies. Without one an LM behind an API takes
    SECONDS_PER_CALL (2), or more by its rate limits, and one of this machine what its `speed` says, else the time is
    unknown.
    """
    before = _measured(folders)
    rates, reply = (before.rates, before.reply) if before is not None else ({}, None)
    most = [replace(part, seconds=_seconds(part, rates, concurrency)) for part in parts]
    usual = [
        Part(part.name, [ask.estimated(reply) for ask in part.asks], fees=[fee.estimated for fee in part.fees])
        for part in most
    ]
    usual = [replace(part, seconds=_seconds(part, rates, concurrency)) for part in usual]
    return Forecast(most, usual, reply, bounds(plan).bounded, before.folder if before is not None else None)


@dataclass(frozen=True)
class _Measured:
    """The measurements of a finished run: LM calls per second by stage, those of the whole run under an empty name."""

    folder: Path
    rates: Mapping[str, float]
    reply: float | None
    """The mean tokens of a reply, None where no tokens were counted."""


def _measured(folders: Iterable[Path]) -> _Measured | None:
    """Return the measurements of the newest finished run, or None where no folder has a report that can be read."""
    for folder in reversed(list(folders)):
        report = folder / "report.json"
        if report.is_file():
            try:
                found = json.loads(report.read_text())
                spent = found["spent"]
                took = {"": spent, **{stage["stage"]: stage for stage in found["stages"]}}
                rates = {name: part["lm_calls"] / part["seconds"] for name, part in took.items() if part["seconds"]}
                reply = spent.get("completion_tokens", 0) / spent["lm_calls"] if rates.get("") else 0
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                continue  # a file of another version or program measures nothing
            if rates.get(""):
                return _Measured(folder, {name: rate for name, rate in rates.items() if rate}, reply or None)
    return None


def _in_all(parts: Sequence[Part]) -> Part:
    asks = [ask for part in parts for ask in part.asks]
    fees = [fee for part in parts for fee in part.fees]
    return Part("in all", asks, _sum(part.seconds for part in parts), fees)


def _seconds(part: Part, rates: Mapping[str, float], window: int) -> float | None:
    """Return the seconds that a part takes, None where unknown; `rates` has measured calls per second by part (empty: none
    measured), and `window` is the number of rows at work at a time.

    The times of several LMs are added, though their calls may overlap.
    """
    rate = rates.get(part.name, rates.get(""))
    if rate is not None:
        return part.lm_calls / rate
    seconds = 0.0
    for id in dict.fromkeys(ask.lm.id for ask in part.asks):
        of_lm = Part(id, [ask for ask in part.asks if ask.lm.id == id])
        lm = of_lm.asks[0].lm
        if lm.runs_here:
            here = _seconds_here(of_lm, lm)
            if here is None:
                return None
            seconds += here
            continue
        pressed, used = lm.limits, _sum([of_lm.prompt_tokens, of_lm.completion_tokens])
        # However many calls are at work at a time, none is faster than one.
        at_a_time = min(window, pressed.concurrency or window, max(1, of_lm.lm_calls))
        needed = [of_lm.lm_calls * SECONDS_PER_CALL / at_a_time]
        if pressed.requests_per_minute:
            needed.append(of_lm.lm_calls / pressed.requests_per_minute * 60)
        if pressed.tokens_per_minute and used is not None:
            needed.append(used / pressed.tokens_per_minute * 60)
        seconds += max(needed)
    return seconds


def _seconds_here(part: Part, lm: LM) -> float | None:
    """Return the seconds of the calls of an LM of this machine, by its `speed` in the spec; None where that or the tokens
    are unknown. The forward and backward passes of training are not included.
    """
    if lm.speed is None or part.prompt_tokens is None or part.completion_tokens is None:
        return None
    if not (lm.speed["input"] and lm.speed["output"]):
        return None
    return part.prompt_tokens / lm.speed["input"] + part.completion_tokens / lm.speed["output"]


def _unknown(ask: CallBound) -> Iterator[str]:
    """Yield the reasons why tokens or cost of calls are unknown, with what to write in the spec."""
    lm, known = ask.lm, model_table.limits(ask.lm)
    if ask.prompt is None:
        yield f"nothing bounds the prompts of {lm.id!r} ({lm.model}): write lms.{lm.id}.context"
    if ask.reply is None:
        yield f"nothing bounds the replies of {lm.id!r} ({lm.model}): write lms.{lm.id}.params.max_tokens"
    if known.prompt_usd is None or known.completion_usd is None:
        yield f"the price of {lm.id!r} ({lm.model}) is unknown: write lms.{lm.id}.price: {{input: ..., output: ...}}"


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum of the values, or None where any value is None."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
