"""The events of an optimization: what each kind holds, and the one reader of the journal that keeps them.

A kind that stands here is checked as it is written and as it is read. Optimizers of other packages may record kinds of their
own, which are kept as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmprog.boundary.plain_values import Unfit, read_as
from lmprog.errors import UsageError
from lmprog.optimizers.candidate import Candidate
from lmprog.state.json_lines import PassedOver, read_objects

Event = dict[str, Any]
FILE = "journal.jsonl"


@dataclass(frozen=True)
class Score:
    """A mean with its 95% interval, as `Estimate.as_json` writes it."""

    mean: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Cost:
    """The cost of a piece of work, and its largest call: the fields of `Spent`."""

    spent: Mapping[str, float]
    largest: Mapping[str, float]


@dataclass(frozen=True)
class RunStarted:
    """Shown, not kept: run.json holds the same."""

    run_dir: str
    program: str
    seed: int


@dataclass(frozen=True)
class StageStarted:
    number: int
    of: int
    name: str


@dataclass(frozen=True)
class Restarted:
    """The stages from `number` on are done again; `rescore`: the earlier ones are scored again, on other rows or otherwise."""

    number: int
    rescore: bool


@dataclass(frozen=True)
class Finished:
    """A value that a resumed run takes in place of doing the work again."""

    key: str
    value: Any
    paid: Cost | None = None
    metric: str | None = None


@dataclass(frozen=True)
class Refused:
    """A candidate that was never run, and why."""

    candidate: Mapping[str, Any]
    findings: str


@dataclass(frozen=True)
class Compared:
    what: str
    difference: Mapping[str, Any]
    verdict: str


@dataclass(frozen=True)
class Confirming:
    """Shown, not kept: a program that is about to be scored on the rows that confirm."""

    rows: int


@dataclass(frozen=True)
class Confirmed:
    """A test on the rows that confirm: the program after a stage against the one after another (0: as written)."""

    number: int
    against: int
    n: int
    level: float
    passed: bool


@dataclass(frozen=True)
class Accepted:
    """The version of the program that is kept, by its number."""

    rule: str
    choose: int
    confirm: int
    tests: Sequence[Mapping[str, Any]]
    kept: int


@dataclass(frozen=True)
class StepMade:
    """A step of training; its figures are those of the stage."""

    step: int


@dataclass(frozen=True)
class Dev:
    """The score of the weights of a step on the dev rows."""

    step: int
    score: Score


@dataclass(frozen=True)
class Round:
    """A search for prompts between the steps of training."""

    step: int
    best: Score
    members: Sequence[str]
    tried: int


@dataclass(frozen=True)
class Spending:
    """Shown, not kept: what is spent so far and what may be."""

    spent: Mapping[str, float]
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """Shown, not kept: a candidate that was scored, and the best so far."""

    number: int
    of: int
    score: Score
    best: Score
    demos: Mapping[str, int]


@dataclass(frozen=True)
class StageSkipped:
    """Shown, not kept: a stage that an earlier process has finished."""

    number: int
    of: int
    stage: str


@dataclass(frozen=True)
class StageEnded:
    """Shown, not kept: `finished` holds the same."""

    name: str
    validate: Score
    gain: Mapping[str, Any]
    changed: bool


@dataclass(frozen=True)
class TestStarted:
    """Shown, not kept: a program that is about to be scored on the test rows."""

    rows: int
    program: str


@dataclass(frozen=True)
class Credit:
    """Shown, not kept: how much of the variance of the reward each module accounts for."""

    rows: int
    modules: Any


@dataclass(frozen=True)
class Note:
    text: str


@dataclass(frozen=True)
class RunEnded:
    overlay: str


KINDS: Mapping[str, Any] = {
    "run_started": RunStarted,
    "stage_started": StageStarted,
    "restarted": Restarted,
    "finished": Finished,
    "refused": Refused,
    "compared": Compared,
    "confirming": Confirming,
    "confirmed": Confirmed,
    "accepted": Accepted,
    "step": StepMade,
    "dev": Dev,
    "round": Round,
    "note": Note,
    "run_ended": RunEnded,
    "spending": Spending,
    "trial": Trial,
    "stage_kept": StageSkipped,
    "stage_ended": StageEnded,
    "test_started": TestStarted,
    "credit": Credit,
}


@dataclass(frozen=True)
class CandidateKept:
    """The value of a `finished` event of a candidate."""

    words: Mapping[str, Any]
    parents: Sequence[str]
    score: Score
    rows: int


@dataclass(frozen=True)
class StageKept:
    """The value of a `finished` event of a stage."""

    candidate: Mapping[str, Any]


def problem(event: Event) -> str | None:
    """Return why an event does not hold what its kind does, or None."""
    if not isinstance(event.get("event"), str):
        return "it has no event"
    if not isinstance(event.get("stage", ""), str):
        return "its stage is no text"
    if event["event"] not in KINDS:
        return None
    wrong = _mismatch(KINDS[event["event"]], event)
    if wrong is None and event["event"] == "finished":
        value = event["value"]
        stage, _, rest = str(event["key"]).partition("/")
        if stage == "stage":
            wrong = _mismatch(StageKept, value) or _mismatch(Candidate, value["candidate"], exact=True)
        elif f"/{rest}".partition("/candidate/")[1]:
            wrong = _mismatch(CandidateKept, value, exact=True) or _mismatch(Candidate, value["words"], exact=True)
    elif wrong is None and event["event"] == "refused":
        wrong = _mismatch(Candidate, event["candidate"], exact=True)
    return wrong


def read_journal(path: Path, passed_over: PassedOver | None = None) -> list[Event]:
    """Return the events of a journal that hold: of a stage that was restarted, those since it was.

    Lines that are no event of this version are passed over, as by `read_objects`. Raises UsageError where all whole lines are.
    """
    events: list[Event] = []
    passed_over = passed_over if passed_over is not None else PassedOver()
    for event in read_objects(path, passed_over, lambda event: problem(event) is None):
        event.pop("line", None)
        if event["event"] == "restarted":
            events = [kept for found in events if (kept := _after(event, found)) is not None]
        events.append(event)
    if not events and passed_over.faults.keys() - {"torn", "blank"}:
        raise UsageError(
            f"{path} cannot be read as the journal of a run: {passed_over}; name a folder that `optimize` of this version wrote"
        )
    return events


def _after(restart: Event, event: Event) -> Event | None:
    """Return what an earlier event is worth after a restart; None where the restart makes it void."""
    number, kind = restart["number"], event["event"]
    if kind in ("run_ended", "confirmed", "accepted") or stage_number(event.get("stage", "")) >= number:
        return None
    if kind == "stage_started" and event["number"] >= number:
        return None
    if kind == "finished":
        stage, _, rest = event["key"].partition("/")
        if stage == "test" or stage_number(stage) >= number or (stage == "stage" and stage_number(rest) >= number):
            return None
        if stage in ("choose", "confirm") and restart["rescore"]:
            return None
        if stage == "stage" and restart["rescore"]:
            kept = {name: value for name, value in event["value"].items() if name not in ("validate", "gain", "test")}
            return {**event, "value": kept}
    return event


def stage_number(stage: str) -> int:
    """Return the number that the name of a stage in a journal begins with; 0 where it has none."""
    number = stage.partition("-")[0]
    return int(number) if number.isdecimal() else 0


def _mismatch(kind: Any, value: Any, *, exact: bool = False) -> str | None:
    try:
        read_as(kind, value, exact=exact)
    except Unfit as error:
        return str(error)
    return None
