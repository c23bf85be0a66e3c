"""The kinds of events in a journal, with the fields of each, and the reader of a journal.

An event of these kinds is checked as it is written and as it is read. Optimizers of other packages may record kinds of their
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
    """A mean score with the lower and upper end of its 95% interval (`ci95`), as plain values."""

    mean: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Cost:
    """The amounts that a piece of work has spent, and the largest amounts of one LM call until then, by the names of the
    fields of `Spent` (`lm_calls`, `prompt_tokens`, `completion_tokens`, `usd`, `seconds`)."""

    spent: Mapping[str, float]
    largest: Mapping[str, float]


@dataclass(frozen=True)
class RunStarted:
    """The event of the start of an optimization of `program`, in the folder `run_dir`, with its seed. It is only shown,
    since the file run.json holds the same."""

    run_dir: str
    program: str
    seed: int


@dataclass(frozen=True)
class StageStarted:
    """The event of a stage's start: its number (from 1), the number `of` all stages, and its name."""

    number: int
    of: int
    name: str


@dataclass(frozen=True)
class Restarted:
    """The event of `--restart-stage`: the stages from `number` on are done again (one more than there are: the test
    alone); with `rescore` earlier ones are scored again.
    """

    number: int
    rescore: bool


@dataclass(frozen=True)
class Finished:
    """The event of a piece of work that is done, with its value, which a resumed run takes instead of doing the work
    again.

    `key` names the work, `paid` is what it cost (None: nothing), and `metric` the metric that its scores are by (None:
    it has none).
    """

    key: str
    value: Any
    paid: Cost | None = None
    metric: str | None = None


@dataclass(frozen=True)
class Refused:
    """The event of a candidate (a dictionary as `Candidate.as_json` returns) that a check or filter refused, with the
    findings as text."""

    candidate: Mapping[str, Any]
    findings: str


@dataclass(frozen=True)
class Compared:
    """The event of a comparison of scores: what was compared, the difference with its interval, and the verdict, such as
    `kept`.
    """

    what: str
    difference: Mapping[str, Any]
    verdict: str


@dataclass(frozen=True)
class Confirming:
    """The event of the start of scoring a program on the confirming dev rows. It is only shown, not recorded."""

    rows: int


@dataclass(frozen=True)
class Confirmed:
    """The event of a test on the confirming dev rows: the program after stage `number` against that after stage `against`
    (0: the program as written).

    `n` is the number of rows, `level` the significance level, and `passed` True where the first is better.
    """

    number: int
    against: int
    n: int
    level: float
    passed: bool


@dataclass(frozen=True)
class Accepted:
    """The event of the final choice: `kept` is the number of the stage whose program is kept, 0 for the program as written.

    `rule` is the value of `accept`, `choose` and `confirm` are the numbers of dev rows, and `tests` the tests made.
    """

    rule: str
    choose: int
    confirm: int
    tests: Sequence[Mapping[str, Any]]
    kept: int


@dataclass(frozen=True)
class StepMade:
    """The event of training step number `step`, from 1; it also has the stage's own metrics."""

    step: int


@dataclass(frozen=True)
class Dev:
    """The event of scoring the weights after training step `step` (0: before the first) on the choosing dev rows, with the
    mean score."""

    step: int
    score: Score


@dataclass(frozen=True)
class Round:
    """The event of a prompt round of `fast_slow` after training step `step` (0: before the first): the best score, the
    digests of the population's members, the best first, and the number of candidates tried.
    """

    step: int
    best: Score
    members: Sequence[str]
    tried: int


@dataclass(frozen=True)
class Spending:
    """The amounts spent so far and the limits, by name. It is only shown, not recorded."""

    spent: Mapping[str, float]
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """The event of a candidate's score: its number (0: the start of the stage) `of` so many at most, the score, the best so
    far, and its numbers of demos by module.

    It is only shown, not recorded.
    """

    number: int
    of: int
    score: Score
    best: Score
    demos: Mapping[str, int]


@dataclass(frozen=True)
class StageSkipped:
    """The event of stage number `number` (from 1) `of` so many, called `stage`, that an earlier process has finished.
    It is only shown, not recorded."""

    number: int
    of: int
    stage: str


@dataclass(frozen=True)
class StageEnded:
    """The event of the end of the stage `name`: the score on choosing rows (`validate`), its gain with interval and p
    value, and `changed`, True where the stage has proposed a change, whether it is kept or not.

    It is only shown, since the event Finished holds the same.
    """

    name: str
    validate: Score
    gain: Mapping[str, Any]
    changed: bool


@dataclass(frozen=True)
class TestStarted:
    """The event of the start of scoring a program on the test rows, of which there are `rows`; `program` names it in words,
    such as `after grpo`. It is only shown, not recorded."""

    rows: int
    program: str


@dataclass(frozen=True)
class Credit:
    """The event of a credit report on `rows` rows: `modules` has the shares of the modules in the variance of the
    reward. It is only shown, not recorded."""

    rows: int
    modules: Any


@dataclass(frozen=True)
class Note:
    """The event of a sentence (`text`) for the user."""

    text: str


@dataclass(frozen=True)
class JobShown:
    """The event of the fine-tuning job (its id) of an LM whose status at the provider has changed; `ended` is True for
    its last status. It is only shown, not recorded."""

    lm: str
    job: str
    status: str
    ended: bool


@dataclass(frozen=True)
class RunEnded:
    """The event of a run's end, with the path of the overlay."""

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
    "job": JobShown,
}


@dataclass(frozen=True)
class CandidateKept:
    """The value of the Finished event of a scored candidate: its words, the digests of its parents, and its score on `rows`
    rows.
    """

    words: Mapping[str, Any]
    parents: Sequence[str]
    score: Score
    rows: int


@dataclass(frozen=True)
class StageKept:
    """The value of the Finished event of a stage: the change that it came to (`candidate`, as `Candidate.as_json`
    returns it), beside other fields of StageOutcome."""

    candidate: Mapping[str, Any]


def problem(event: Event) -> str | None:
    """Return in a sentence which field an event lacks, or has with a wrong type; None where it is valid. Of a kind that is
    not in KINDS only `event` and `stage` are checked."""
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
    """Return the valid events of a journal file, in order, without those that a later restart of their stage made void.

    Lines that are no event of this version are added to `passed_over` (None: they are dropped). Raises UsageError where
    the file has such lines and no event, other than blank or half-written ones, or a line of another version of the
    format, and OSError where it cannot be opened; a file without lines has no events.
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
    """Return the number in a stage's name or key, such as 2 of `2-grpo`; 0 where it does not begin with one."""
    number = stage.partition("-")[0]
    return int(number) if number.isdecimal() else 0


def _mismatch(kind: Any, value: Any, *, exact: bool = False) -> str | None:
    try:
        read_as(kind, value, exact=exact)
    except Unfit as error:
        return str(error)
    return None
