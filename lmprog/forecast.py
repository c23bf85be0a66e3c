"""`--dry-run`: what an optimization can come to at most, stage by stage, and about how long that would take.

Calls, tokens and money are bounds. The time is an estimate for as many calls: at the rate of a finished run of the program
where there is one, else, behind an API, by its rate limits and SECONDS_A_CALL, and in this process by the `speed` that the spec
gives: nobody else knows it beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmprog.compiler import model_table
from lmprog.compiler.bounds import bounds, dev_split, judges
from lmprog.compiler.plan import LM, Optimize, Plan
from lmprog.data import rows_of
from lmprog.power import CHANGING, WANTED, least_gain
from lmprog.program import Program
from lmprog.worst_case import Ask, Growth, asks, longest_reply, tokens

if TYPE_CHECKING:
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.optimizer import Optimizer

SECONDS_A_CALL = 2.0
"""What a call of an LM behind an API is taken to last."""


@dataclass(frozen=True)
class Part:
    """A stage, or a scoring around the stages. What is not known is None."""

    name: str
    asks: Sequence[Ask]
    seconds: float | None = None

    @property
    def lm_calls(self) -> int:
        return sum(ask.calls for ask in self.asks)

    @property
    def prompt_tokens(self) -> float | None:
        return _sum(None if ask.prompt is None else ask.calls * ask.prompt for ask in self._asked)

    @property
    def completion_tokens(self) -> float | None:
        return _sum(None if ask.reply is None else ask.calls * ask.reply for ask in self._asked)

    @property
    def usd(self) -> float | None:
        return _sum(ask.usd for ask in self._asked)

    @property
    def _asked(self) -> list[Ask]:
        return [ask for ask in self.asks if ask.calls]


@dataclass(frozen=True)
class DevRows:
    """How many dev rows choose and confirm, and the smallest gain that those can confirm; None where none can."""

    choose: int
    confirm: int
    least_gain: float | None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "power": WANTED, "changing": CHANGING}


@dataclass(frozen=True)
class Forecast:
    """The parts of a run in their order; `measured` is the run whose rate the time is estimated by."""

    parts: Sequence[Part]
    bounded: bool
    """False where a `foreach` without `at_most` is taken to have one item."""
    measured: Path | None
    dev: DevRows | None = None
    """None of what is no optimization."""

    @property
    def in_all(self) -> Part:
        seconds = _sum(part.seconds for part in self.parts)
        return Part("in all", [ask for part in self.parts for ask in part.asks], seconds)

    @property
    def unknown(self) -> list[str]:
        """What keeps a sum from being known, and what to write in the spec."""
        found: dict[str, None] = {}
        for ask in self.in_all.asks:
            if ask.calls:
                found.update(dict.fromkeys(_unknown(ask)))
        return list(found)


def forecast(program: Program, folders: Iterable[Path] = ()) -> Forecast:
    """Of the program's `optimize`; `folders` are of earlier runs, the newest last.

    Raises UsageError where an optimization would.
    """
    from lmprog.optimizers.acceptance import first_level
    from lmprog.optimizers.staged import TEST, goals_of, make, most_repeats

    plan, goals = program.plan, goals_of(program)
    train, dev = rows_of(plan, goals.train), rows_of(plan, goals.validate)
    choosing, confirming = dev_split(len(dev), goals.accept)
    test = rows_of(plan, TEST) if TEST in plan.data else []
    growth = _growth(goals, plan)
    of_judges = [ask for judge in judges(plan) for ask in asks(judge, (), Growth(None, None))]
    run = [*asks(plan, [*train, *dev, *test], growth), *of_judges]
    proposal = _proposal(goals, plan)
    sizes = len(train), choosing
    parts, versions = [], list(run)
    for stage in goals.stages:
        optimizer = make(stage)
        others = _others(program, optimizer, [*train, *dev], of_judges)
        results = [
            [*asks(program.with_candidate(result).plan, [*train, *dev, *test], growth), *of_judges]
            for result in _results(program, optimizer)
        ]
        others += [ask for result in results for ask in _times(result, choosing)]
        parts.append(Part(stage.optimizer, _of_stage(program, optimizer, sizes, run, proposal, others)))
        versions += results[-1] if results else run
    parts.append(Part("dev before and after each stage", _times(versions, choosing)))
    if confirming:
        parts.append(Part("dev that confirms", _times(versions, confirming * most_repeats(goals))))
    if test:
        parts.append(Part("test at the end", _times(versions, len(test))))
    level = first_level(goals.accept, len(goals.stages))
    shown = DevRows(choosing, confirming, least_gain(confirming, level) if confirming else None)
    return replace(timed(program, parts, folders), dev=shown)


def timed(program: Program, parts: Iterable[Part], folders: Iterable[Path] = ()) -> Forecast:
    """The parts with the time that each may take; `folders` are of earlier runs, the newest last."""
    rates, measured = _rates(folders)
    known = [Part(part.name, part.asks, _seconds(part, rates, program.concurrency)) for part in parts]
    return Forecast(known, bounds(program.plan).bounded, measured)


def _others(
    program: Program, optimizer: Optimizer, rows: Sequence[Mapping[str, Any]], of_judges: Sequence[Ask]
) -> list[Ask]:
    """What the runs of other programs ask, and their scores."""
    other_runs = getattr(optimizer, "other_runs", None)
    return [
        ask.times(count)
        for plan, count in (other_runs(program) if other_runs is not None else ())
        for ask in [*asks(plan, rows, Growth()), *of_judges]
    ]


def _results(program: Program, optimizer: Optimizer) -> Sequence[Candidate]:
    """The programs that a stage tries, where a run of them asks more than one of the program."""
    results = getattr(optimizer, "results", None)
    return results(program) if results is not None else ()


def _of_stage(
    program: Program,
    optimizer: Optimizer,
    sizes: tuple[int, int],
    run: Sequence[Ask],
    proposal: Ask | None,
    others: Sequence[Ask],
) -> list[Ask]:
    """Whole runs, and the proposer as often as the optimizer says; where it does not say, any call may be the dearest."""
    most = optimizer.most_calls(program, *sizes) - sum(ask.calls for ask in others)
    a_run = sum(ask.calls for ask in run)
    most_proposals = getattr(optimizer, "most_proposals", None)
    if most_proposals is not None and a_run:
        count = most_proposals(program, *sizes)
        proposals = [proposal.times(count)] if proposal is not None else []
        return [*_times(run, -(-(most - count) // a_run)), *proposals, *others]
    known = [*run, *([proposal] if proposal is not None else [])]
    prompt = _largest([ask.prompt for ask in known])
    reply = _largest([ask.reply for ask in known])
    each = [Ask(ask.lm, most, prompt, reply) for ask in known]
    dearest = [max(each, key=lambda ask: inf if ask.usd is None else ask.usd)] if each else []
    return [*dearest, *others]


def _growth(goals: Optimize, plan: Plan) -> Growth:
    """What the stages can add to prompts; one of another package may do as it likes."""
    from lmprog.optimizers.optimizer import BUILT_IN, find
    from lmprog.optimizers.strategies.demo_runs import most_demos

    if any(stage.optimizer not in BUILT_IN for stage in goals.stages):
        return Growth(None, None)
    options = [find(stage.optimizer).Config.model_validate(dict(stage.options)) for stage in goals.stages]
    demos = max((most_demos(getattr(option, "demos", 0)) for option in options), default=0)
    written = max((tokens(text) for texts in goals.instructions.values() for text in texts), default=0)
    if goals.proposer is None:
        return Growth(demos, written)
    # Twice: the proposer counts its words by its own tokenizer.
    reply = longest_reply(plan.lms[goals.proposer])
    return Growth(demos, None if reply is None else max(written, 2 * reply))


def _proposal(goals: Optimize, plan: Plan) -> Ask | None:
    if goals.proposer is None:
        return None
    lm = plan.lms[goals.proposer]
    return Ask(lm, 1, model_table.limits(lm).context, longest_reply(lm))


def _rates(folders: Iterable[Path]) -> tuple[dict[str, float], Path | None]:
    """LM calls a second of the newest finished run: of each of its stages, and of it all under an empty name."""
    for folder in reversed(list(folders)):
        report = folder / "report.json"
        if report.is_file():
            found = json.loads(report.read_text())
            took = {"": found["spent"], **{stage["stage"]: stage for stage in found["stages"]}}
            rates = {name: part["lm_calls"] / part["seconds"] for name, part in took.items() if part["seconds"]}
            if rates.get(""):
                return {name: rate for name, rate in rates.items() if rate}, folder
    return {}, None


def _seconds(part: Part, rates: Mapping[str, float], window: int) -> float | None:
    """`window` is how many rows are at work at a time. One LM after the other: what asks two of them may take less."""
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
        needed = [of_lm.lm_calls * SECONDS_A_CALL / min(window, pressed.concurrency or window)]
        if pressed.requests_per_minute:
            needed.append(of_lm.lm_calls / pressed.requests_per_minute * 60)
        if pressed.tokens_per_minute and used is not None:
            needed.append(used / pressed.tokens_per_minute * 60)
        seconds += max(needed)
    return seconds


def _seconds_here(part: Part, lm: LM) -> float | None:
    """By the `speed` that the spec gives; the forward and backward passes of training are not in it."""
    if lm.speed is None or part.prompt_tokens is None or part.completion_tokens is None:
        return None
    if not (lm.speed["input"] and lm.speed["output"]):
        return None
    return part.prompt_tokens / lm.speed["input"] + part.completion_tokens / lm.speed["output"]


def _unknown(ask: Ask) -> Iterator[str]:
    lm, known = ask.lm, model_table.limits(ask.lm)
    if ask.prompt is None:
        yield f"nothing bounds the prompts of {lm.id!r} ({lm.model}): write lms.{lm.id}.context"
    if ask.reply is None:
        yield f"nothing bounds the replies of {lm.id!r} ({lm.model}): write lms.{lm.id}.params.max_tokens"
    if known.prompt_usd is None or known.completion_usd is None:
        yield f"nobody knows the price of {lm.id!r} ({lm.model}): write lms.{lm.id}.price: {{input: ..., output: ...}}"


def _times(run: Iterable[Ask], count: int) -> list[Ask]:
    return [ask.times(count) for ask in run]


def _largest(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def _sum(values: Iterable[float | None]) -> float | None:
    """None where one of them is."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
