"""The content of an optimization's page, read from its run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lmprog.errors import UsageError
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.journal.events import FILE, read_journal
from lmprog.optimizers.journal.lineage import Entry, StageTree, read_trees
from lmprog.optimizers.staged.verdict import described, verdict
from lmprog.reports.page.rows import ChangedRow, Version, changed_rows
from lmprog.scoring.small_samples import few
from lmprog.scoring.statistics import Difference, Estimate
from lmprog.spending.budget import Spent
from lmprog.state.json_lines import PassedOver
from lmprog.state.origin import RUN, read_origin

AS_WRITTEN = "as written"
"""The name of the version that is the program before all stages."""


@dataclass(frozen=True)
class Scored:
    """A score of a candidate in the order of the search, as a point of the search's curve.

    `number` is its place in that order, from 0, `digest` names the candidate, `rows` is the number of choosing dev rows
    that it was scored on, `score` the estimate on them, and `best` the best one so far.
    """

    number: int
    digest: str
    score: Estimate
    rows: int
    best: Estimate
    """The best score so far: of the start, and of the candidates that were scored on the most rows so far."""


@dataclass(frozen=True)
class StageReport:
    """The report of one stage of an optimization from its journal: its key there (`NUMBER-NAME`), its name, and the tree of its
    candidates.

    `spent`, `validate` (its score on the choosing dev rows) and `after` are None while it is in progress. `searched` are
    the scores of a search in their order, `compared` the last comparison of each kind, and `notes` are sentences for the
    user.
    """

    key: str
    name: str
    tree: StageTree
    spent: Spent | None = None
    validate: Estimate | None = None
    after: Candidate | None = None
    """The whole change to the program after this stage."""
    searched: Sequence[Scored] = ()
    steps: Sequence[Mapping[str, Any]] = ()
    """Entries of the journal for the steps of training, in their order."""
    dev: Mapping[int, Estimate] = field(default_factory=dict)
    """Scores of the weights in training, by step."""
    compared: Sequence[Mapping[str, Any]] = ()
    credit: Mapping[str, Any] | None = None
    """The share of each module in the score's variance (`Credit.as_json`); None where the stage has not measured it."""
    notes: Sequence[str] = ()
    paid: Spent = field(default_factory=Spent)
    """Spending of the finished parts of a stage that has not ended, as far as the journal has it."""

    @property
    def roots(self) -> list[Entry]:
        """The scored candidates without a parent, from which the tree is drawn: the start, if it was scored."""
        return [entry for entry in self.tree.entries.values() if entry.score and self.tree.parent(entry) is None]

    @property
    def refused(self) -> list[Entry]:
        """The candidates that a check or filter refused."""
        return [entry for entry in self.tree.entries.values() if entry.refused is not None]

    @property
    def scored(self) -> int:
        """The number of candidates that were scored."""
        return sum(entry.score is not None for entry in self.tree.entries.values())


@dataclass(frozen=True)
class RunReport:
    """The content of the page of one optimization, from its run folder; its `versions` are the program as written and after
    each finished stage.

    `program` is the program's name, or that of the folder where it is not known, `seed` the one of the run (None: not
    known), `metric` the id of the metric (`score` until the test rows are scored), and `stages` are those that have begun.
    """

    folder: Path
    program: str
    seed: int | None
    metric: str
    stages: Sequence[StageReport]
    of: int
    """The number of stages that the run has in all; 0 before the first has begun."""
    versions: Sequence[Version]
    inputs: Sequence[Mapping[str, str]]
    """The inputs of the test rows as text by name, as far as the journal holds them."""
    overlay: str | None
    """The path of the written overlay; None for a run that has not ended."""
    accepted: Mapping[str, Any] | None = None
    """The tests on confirming rows and the number of the version that is kept (`kept`, 0: as written), as the journal has
    them; None until the stages have ended.
    """
    unreadable: str | None = None
    """A sentence on the lines of the journal that were left out; None where all could be read."""

    @property
    def tested(self) -> bool:
        """True if some version was scored on the test rows."""
        return any(version.values for version in self.versions)

    @property
    def span(self) -> tuple[float, float]:
        """The least and the greatest score to show: 0 and 1, or beyond where an interval goes beyond them."""
        shown = [score for version in self.versions for score in (version.dev, version.test) if score is not None]
        return min([0.0, *(score.ci95[0] for score in shown)]), max([1.0, *(score.ci95[1] for score in shown)])

    @property
    def gain(self) -> Difference | None:
        """The paired gain of the kept version over the program as written on the test rows; None where the latter is kept, or
        no test row has both scores.
        """
        return self.kept.gain(self.versions[0]) if self.kept is not self.versions[0] else None

    @property
    def few_rows(self) -> str | None:
        """A warning that the test rows are too few for the gain, or the kept version's score where there is none; None where
        they are not, or none was scored.
        """
        if self.gain is not None:
            return few(self.gain.n, self.gain.ci95)
        return few(self.kept.test.n) if self.kept.test is not None else None

    @property
    def kept(self) -> Version:
        """The version that is kept; until that is decided, the one after the last finished stage."""
        return self.versions[self.accepted["kept"] if self.accepted is not None else -1]

    @property
    def path(self) -> list[str]:
        """Sentences on the tests on the confirming dev rows, and on the version that is kept; empty until that is decided."""
        if self.accepted is None:
            return []
        names = [stage.name for stage in self.stages]
        return [*(described(test, names) for test in self.accepted["tests"]), verdict(self.accepted, names)]

    @property
    def spent(self) -> Spent:
        """The calls, tokens, money and time that the stages have spent, of one in progress its finished parts, without
        the final scores on test rows."""
        total = Spent()
        for stage in self.stages:
            total = total.plus(stage.spent or stage.paid)
        return total

    @property
    def state(self) -> str:
        """The state of the run in words: finished, or the part (a stage, the sealed test) in which it is at work or was
        stopped, which the journal does not tell apart.
        """
        if self.overlay is not None:
            return "finished"
        at_work = next((place for place, stage in enumerate(self.stages, 1) if stage.spent is None), None)
        if at_work is None:
            return "at work, or stopped: the sealed test" if self.stages else "at work, or stopped: nothing scored yet"
        return f"at work, or stopped: stage {at_work} of {self.of}, {self.stages[at_work - 1].name}"

    @cached_property
    def changed(self) -> list[ChangedRow]:
        """The test rows whose score differs between versions, in the order of the split."""
        return changed_rows(self.versions, self.inputs)

    def within(self, path: str) -> str:
        """Return a path for display: relative to the run's folder where it lies inside, else unchanged."""
        home = self.folder.resolve()
        return str(Path(path).relative_to(home)) if Path(path).is_relative_to(home) else path

    @property
    def before(self) -> Candidate:
        """The instructions, demos and layouts of the program as written, as far as the first stage has recorded them; an empty
        candidate where it has not.
        """
        start = self.stages[0].tree.start if self.stages else None
        return start.words if start is not None else Candidate()

    @property
    def change(self) -> Candidate:
        """The change to the program that is kept, empty where it stays as written; until that is decided, the change after the
        last finished stage.
        """
        if self.accepted is not None:
            number = self.accepted["kept"]
            return (self.stages[number - 1].after if number else None) or Candidate()
        return next((stage.after for stage in reversed(self.stages) if stage.after is not None), Candidate())


def read(folder: Path) -> RunReport:
    """Return the content of the page for the run folder of an optimization, which may be in progress; lines of the journal that
    cannot be read are left out.

    Raises UsageError where there is no run that this version can read.
    """
    try:
        return _read(folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{folder / 'journal.jsonl'} cannot be read as the journal of a run ({type(error).__name__}: {error}); name a "
            "folder that `optimize` of this version wrote"
        ) from None


def _read(folder: Path) -> RunReport:
    """Return the content of the page for a run folder; a journal of an unexpected form raises the error that it leads to."""
    trees = read_trees(folder)
    passed_over = PassedOver()
    events = read_journal(folder / FILE, passed_over)
    origin = read_origin(folder / RUN)
    stages = [_stage(tree, events) for tree in trees]
    tests = {
        event["key"].removeprefix("test/"): event
        for event in events
        if event["event"] == "finished" and event["key"].startswith("test/")
    }
    kinds = {
        event["key"].removeprefix("kinds/"): event["value"]
        for event in events
        if event["event"] == "finished" and event["key"].startswith("kinds/")
    }
    ended = [(f"+ {stage.name}", stage.after, stage.validate) for stage in stages if stage.after is not None]
    versions = [
        Version(name, dev, **_of_test(tests.get(candidate.digest)), kinds=kinds.get(candidate.digest, ()))
        for name, candidate, dev in [(AS_WRITTEN, Candidate(), None), *ended]
    ]
    return RunReport(
        folder,
        origin.program if origin is not None else folder.name,
        origin.seed if origin is not None else None,
        next((event["metric"] for event in tests.values() if "metric" in event), "score"),
        stages,
        max((event["of"] for event in events if event["event"] == "stage_started"), default=0),
        versions,
        tests.get(Candidate().digest, {}).get("rows", ()),
        next((event["overlay"] for event in events if event["event"] == "run_ended"), None),
        next(
            (event for event in reversed(events) if event["event"] == "accepted" and event["kept"] < len(versions)),
            None,
        ),
        str(passed_over) if passed_over else None,
    )


def _of_test(event: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the scores and answers of a version's event in the journal as arguments of Version; empty where there is none."""
    return {"values": event["value"], "answers": event.get("answers", ())} if event is not None else {}


def _stage(tree: StageTree, events: Sequence[Mapping[str, Any]]) -> StageReport:
    """Return the report of the stage of a tree from the events of the whole journal."""
    own = [event for event in events if event.get("stage") == tree.stage]
    report = StageReport(
        tree.stage,
        tree.stage.partition("-")[2],
        tree,
        searched=list(_searched(own)),
        # A resumed run may do the last steps again; what it did last is what holds.
        steps=[step for _, step in sorted({event["step"]: event for event in own if event["event"] == "step"}.items())],
        dev={step: Estimate.from_json(score) for step, score in sorted(tree.steps.items())},
        compared=list({event["what"]: event for event in own if event["event"] == "compared"}.values()),
        credit=next((event["value"] for event in own if event.get("key") == f"{tree.stage}/credit"), None),
        notes=[event["text"] for event in own if event["event"] == "note"],
        paid=_paid(own),
    )
    for event in events:
        if event["event"] == "finished" and event["key"] == f"stage/{tree.stage}":
            value = event["value"]
            after, validate = Candidate.from_json(value["candidate"]), Estimate.from_json(value["validate"])
            return replace(report, after=after, validate=validate, spent=Spent(**value["spent"]))
    return report


def _paid(events: Sequence[Mapping[str, Any]]) -> Spent:
    """Return the spending that the events of finished parts have recorded, together."""
    total = Spent()
    for event in events:
        if event["event"] == "finished" and event.get("paid"):
            total = total.plus(Spent(**event["paid"]["spent"]))
    return total


def _searched(events: Sequence[Mapping[str, Any]]) -> Iterator[Scored]:
    """Yield the scores of a stage's candidates in the order of its events; a score that was recorded again is left out."""
    seen: set[tuple[str, int]] = set()
    start: list[Estimate] = []
    rivals: list[Estimate] = []
    most = 0
    for event in events:
        digest = str(event.get("key", "")).partition("/candidate/")[2]
        if event["event"] != "finished" or not digest or (digest, event["value"]["rows"]) in seen:
            continue
        rows, score = event["value"]["rows"], Estimate.from_json(event["value"]["score"])
        seen.add((digest, rows))
        if digest == START.digest:
            start = [score]
        elif rows >= most:
            rivals = [score] if rows > most else [*rivals, score]
            most = rows
        best = max([*start, *rivals] or [score], key=lambda estimate: estimate.mean)
        yield Scored(len(seen) - 1, digest, score, rows, best)
