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


@dataclass(frozen=True)
class Scored:
    """A score of a candidate in the order of the search, as a point of the search's curve.

    `number` is its place in that order, `digest` the candidate, `rows` the number of rows that it was scored on, and `best`
    the best score so far.
    """

    number: int
    digest: str
    score: Estimate
    rows: int
    best: Estimate
    """The best so far: of those that were scored on the most rows so far, or the start."""


@dataclass(frozen=True)
class StageReport:
    """The report of one stage of an optimization: its key in the journal, its name, and the tree of its candidates.
    `spent` and `validate`, its score on confirming rows, are None while it is in progress.

    `after` is the whole change to the program after the stage (None: none yet), `searched` the scores of a search in
    their order, `steps` those of training, `dev` the scores of the weights in training by step, `compared` the
    comparisons of candidates, `credit` each module's share in the score's variance (None: not measured), and `notes`
    are sentences.
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
    """The share of each module in the reward's variance (`Credit.as_json`), where the stage has reported it."""
    notes: Sequence[str] = ()
    paid: Spent = field(default_factory=Spent)
    """Spending of the finished parts of the stage, where it is known before its end."""

    @property
    def roots(self) -> list[Entry]:
        """The roots of the stage's tree of candidates: the start, if it was scored."""
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
    """The content of the page of one optimization, from its `folder`; its versions are the program as written and after
    each finished stage.

    `seed` and `metric` are those of the optimization (seed None: not known), `of` is the number of all stages, `inputs`
    are those of the test rows as text, `overlay` is the path of the written overlay and `accepted` the tests and the
    version kept (None: the run has not ended). `unreadable` says which lines of the journal were left out (None:
    none).
    """

    folder: Path
    program: str
    seed: int | None
    metric: str
    stages: Sequence[StageReport]
    of: int
    """Stages that the run has in all."""
    versions: Sequence[Version]
    inputs: Sequence[Mapping[str, str]]
    """Inputs of the test rows, where the journal holds them."""
    overlay: str | None
    """The path of the written overlay; None for a run that has not ended."""
    accepted: Mapping[str, Any] | None = None
    """The tests and the version that is kept, as in the report; None until the stages have ended."""
    unreadable: str | None = None
    """The lines of the journal that are left out, and the reason; None where all could be read."""

    @property
    def tested(self) -> bool:
        """True if the test split was scored."""
        return any(version.values for version in self.versions)

    @property
    def span(self) -> tuple[float, float]:
        """The least and the greatest score to show: 0 and 1, or beyond where an interval goes beyond them."""
        shown = [score for version in self.versions for score in (version.dev, version.test) if score is not None]
        return min([0.0, *(score.ci95[0] for score in shown)]), max([1.0, *(score.ci95[1] for score in shown)])

    @property
    def gain(self) -> Difference | None:
        """The paired gain of the kept version on the test split; None where the program as written is kept."""
        return self.kept.gain(self.versions[0]) if self.kept is not self.versions[0] else None

    @property
    def few_rows(self) -> str | None:
        """A warning that the test rows are too few to show the gain; None where they are not."""
        if self.gain is not None:
            return few(self.gain.n, self.gain.ci95)
        return few(self.kept.test.n) if self.kept.test is not None else None

    @property
    def kept(self) -> Version:
        """The version that is kept; the last one while stages are in progress."""
        return self.versions[self.accepted["kept"] if self.accepted is not None else -1]

    @property
    def path(self) -> list[str]:
        """Sentences on the tests on the confirming dev rows, and on the version that is kept."""
        if self.accepted is None:
            return []
        names = [stage.name for stage in self.stages]
        return [*(described(test, names) for test in self.accepted["tests"]), verdict(self.accepted, names)]

    @property
    def spent(self) -> Spent:
        """The amounts that the run has spent."""
        total = Spent()
        for stage in self.stages:
            total = total.plus(stage.spent or stage.paid)
        return total

    @property
    def state(self) -> str:
        """The state of the run in words: finished, or the stage in which it is at work or was stopped."""
        if self.overlay is not None:
            return "finished"
        at_work = next((place for place, stage in enumerate(self.stages, 1) if stage.spent is None), None)
        if at_work is None:
            return "at work, or stopped: the sealed test" if self.stages else "at work, or stopped: nothing scored yet"
        return f"at work, or stopped: stage {at_work} of {self.of}, {self.stages[at_work - 1].name}"

    @cached_property
    def changed(self) -> list[ChangedRow]:
        """The test rows whose score changed."""
        return changed_rows(self.versions, self.inputs)

    def within(self, path: str) -> str:
        """Return a path for display: relative to the run's folder where it lies inside."""
        home = self.folder.resolve()
        return str(Path(path).relative_to(home)) if Path(path).is_relative_to(home) else path

    @property
    def before(self) -> Candidate:
        """The instructions, demos and layouts of the program as written, as far as a stage has recorded them."""
        start = self.stages[0].tree.start if self.stages else None
        return start.words if start is not None else Candidate()

    @property
    def change(self) -> Candidate:
        """The change that is kept; until that is decided, the changes of all finished stages together."""
        if self.accepted is not None:
            number = self.accepted["kept"]
            return (self.stages[number - 1].after if number else None) or Candidate()
        return next((stage.after for stage in reversed(self.stages) if stage.after is not None), Candidate())


def read(folder: Path) -> RunReport:
    """Return the content of the page for a run folder; the run may be in progress.

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
    return {"values": event["value"], "answers": event.get("answers", ())} if event is not None else {}


def _stage(tree: StageTree, events: Sequence[Mapping[str, Any]]) -> StageReport:
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
    total = Spent()
    for event in events:
        if event["event"] == "finished" and event.get("paid"):
            total = total.plus(Spent(**event["paid"]["spent"]))
    return total


def _searched(events: Sequence[Mapping[str, Any]]) -> Iterator[Scored]:
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
