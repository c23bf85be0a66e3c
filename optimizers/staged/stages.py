"""The stages of a program's `optimize`, each from the best program so far; then what is kept of them, and the sealed test.

The dev rows are split once: stages choose by some of them, and the others confirm what was chosen. Nothing here reads the
test split before the last stage has ended. Then the program before, and the program after each stage, are scored on it once,
on the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from lmprog.blame import too_many_outages
from lmprog.compiler.plan import Optimize, Stage
from lmprog.errors import BudgetExceeded, UsageError
from lmprog.extras import require
from lmprog.failure import Recovered
from lmprog.lms import making
from lmprog.lms.answer_file import AnswerCache
from lmprog.lms.response_cache import RunResponseCache
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.finalists import Finalists, words_of
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.journal.lineage import read_trees
from lmprog.optimizers.optimizer import Optimizer, Row, Task, find, packages_of
from lmprog.optimizers.redaction import ShownRows
from lmprog.optimizers.staged.acceptance import ALPHA, Confirmation
from lmprog.optimizers.staged.dev_split import DevSplit, described, split
from lmprog.optimizers.staged.split_scores import SplitScores, split_scores
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.scoring.data import rows_of
from lmprog.scoring.evaluation import Scores
from lmprog.seeds import derive
from lmprog.spending.budget import Budget, Spent

TEST = "test"


@dataclass(frozen=True)
class StageOutcome:
    """The result of one stage: its candidate, what it spent, its score `validate` on the choosing dev rows and its gain
    there (dictionaries with `mean` and `ci95`).

    `steps` is the number of its training steps and `step_seconds` the median time of one (0.0: none is known); `test` is the
    test on the confirming rows with `accept: stage` (None: none was made), `credit` the credit report (None: none was made).
    """

    stage: str
    candidate: Candidate
    """The whole change since the program as written, of the program that the next stage starts from."""
    spent: Spent
    validate: dict[str, Any]
    """The score on the dev rows that choose of the program with the stage's change, whether that is kept or not."""
    gain: dict[str, Any]
    """The paired difference to the program that it started from, on the rows that it was chosen on: no proof of anything."""
    steps: int
    step_seconds: float
    test: dict[str, Any] | None = None
    """The test on the rows that confirm, with `accept: stage`, as `GainTest.as_json`."""
    credit: dict[str, Any] | None = None
    """The share of each module in the reward's variance, where the stage has reported it."""

    def as_json(self) -> dict[str, Any]:
        """Return the result as a dictionary of plain values by field name, from which `from_json` makes it again."""
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "candidate": self.candidate.as_json(),
            "spent": self.spent.as_json(),
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> StageOutcome:
        """Return the result from a dictionary that `as_json` wrote."""
        made = {**values, "candidate": Candidate.from_json(values["candidate"]), "spent": Spent(**values["spent"])}
        return StageOutcome(**made)


@dataclass(frozen=True)
class Outcome:
    """The result of a run of stages: the candidate that is kept, the score `before` any stage (`mean`, `ci95`), and `best`,
    what the last stage came to.

    `accepted` has the tests that decided, `stages` the result of each stage, `test` the test scores of the program as written
    and after each stage (empty: no test split), and `spent` the amounts that count for the budget.
    """

    candidate: Candidate
    """The changes that are kept."""
    before: Mapping[str, Any]
    """The score of the program as written on the dev rows that choose."""
    best: Candidate
    """The best estimate: the changes of all stages, whether a test confirms them or not; with `accept: stage` of those stages
    alone whose test has passed."""
    accepted: Mapping[str, Any]
    """The rule, number of rows, tests and stage by which the program is kept: part of the report."""
    stages: Sequence[StageOutcome]
    test: Sequence[Scores]
    spent: Spent


def optimize_config(program: Program) -> Optimize:
    """Return the program's `optimize:` block. Raises UsageError where there is none, and for an ensemble of
    programs."""
    block = program.plan.optimize
    if block is None:
        raise UsageError(f"{program.plan.name} has no `optimize:`; name a metric, what to tune, and the stages")
    if program.plan.members:
        raise UsageError(f"{program.plan.path.name} is an ensemble of programs; optimize the program that it extends")
    return block


def require_packages(program: Program) -> None:
    """Raise MissingExtra where an LM or a stage of the program needs packages that are not installed. Raises UsageError
    for a stage that is not installed."""
    for lm in program.lms.values():
        making.require_packages(lm)
    for stage in optimize_config(program).stages:
        require(packages_of(stage.optimizer, program.plan), f"the stage {stage.optimizer!r}")


def make(stage: Stage) -> Optimizer:
    """Return the optimizer of a stage, made with the stage's options, which the compiler has checked. Raises the errors
    of `find`."""
    optimizer = find(stage.optimizer)
    return optimizer(optimizer.Config.model_validate(dict(stage.options)))


def run_stages(program: Program, seed: int, budget: Mapping[str, float], journal: Journal) -> Outcome:
    """Run the stages of a program in order, then decide what is kept, and score the test split if there is one. All
    draws follow from `seed`.

    What the journal records as done is not done again. `budget` has limits by name, for the work of the stages alone; a
    spent budget ends a stage, and raises nothing. Raises UsageError and RowsError for data that cannot be read, ProviderError
    where outages leave nothing to score, and MetricFailed where the metric raises on every row.
    """
    batch = optimize_config(program).batch
    with (
        closing(AnswerCache(journal.folder)) as cache,
        split_scores(batch, journal.folder, lambda text: journal.tell("note", text=text)) as scoring,
    ):
        return _run(program, seed, budget, journal, RunResponseCache(cache), scoring)


def _run(
    program: Program,
    seed: int,
    budget: Mapping[str, float],
    journal: Journal,
    answers: RunResponseCache,
    scoring: SplitScores,
) -> Outcome:
    block = optimize_config(program)
    train, dev = rows_of(program.plan, block.train), rows_of(program.plan, block.validate)
    parts = split(dev, block, seed)
    journal.note(described(parts, block))
    spent_before = journal.recall("spent")
    shared = Budget(budget, Spent(**spent_before) if spent_before else None, answers)
    metered = program.with_budget(shared)
    # What a run reports of its stages, and every test, are scored apart from the budget: not paid for out of the search.
    unlimited = program.with_budget(Budget({}, answers=answers))
    confirmation = Confirmation(unlimited, parts.confirm, block.metric, journal, seed, most_repeats(block), scoring)
    chosen_by = _ChoosingScores(unlimited, parts.choose, block.metric, journal, seed, scoring)
    best = Candidate()
    outcomes: list[StageOutcome] = []
    for number, stage in enumerate(block.stages, 1):
        key = f"{number}-{stage.optimizer}"
        recorded = journal.recall(f"stage/{key}")
        if recorded is not None:
            previous, best = best, Candidate.from_json(recorded["candidate"])
            if "validate" not in recorded:  # a later stage was restarted, on other rows or with another metric
                scores = chosen_by.of(best)
                gain = scores.against(chosen_by.of(previous)).as_json()
                recorded = {**recorded, "validate": scores.estimate.as_json(), "gain": gain}
                journal.keep(f"stage/{key}", recorded)
            outcomes.append(StageOutcome.from_json(recorded))
            journal.tell("stage_kept", number=number, of=len(block.stages), stage=stage.optimizer)
            continue
        journal.record("stage_started", number=number, of=len(block.stages), name=stage.optimizer)
        before = shared.spent
        within = journal.within(key, shared)
        start = metered.with_candidate(best)
        stage_seed = derive(seed, number, stage.optimizer)
        came_to = [outcome.candidate for outcome in outcomes]
        finalists = partial(_finalists, metered, journal.folder, came_to, len(parts.choose))
        task = Task(
            start, train, parts.choose, block.metric, shared, within, stage_seed, screened=dev, finalists=finalists
        )
        try:
            change = make(stage).optimize(task)
        except BudgetExceeded as error:
            journal.note(f"{error}; {stage.optimizer} changed nothing")
            change = Candidate()
        after = best.then(change)
        scores, scores_before = chosen_by.of(after), chosen_by.of(best)
        tested = None
        if block.accept == "stage" and after.digest != best.digest:
            versions = [Candidate(), *(outcome.candidate for outcome in outcomes), after]
            tested = _of_stage(confirmation, versions, number, len(block.stages))
        made = [event for event in journal.events if event["event"] == "step" and event.get("stage") == key]
        # Optimizers of other packages record what they like beside a step's number.
        seconds = [event["seconds"] for event in made if isinstance(event.get("seconds"), int | float)]
        outcome = StageOutcome(
            stage.optimizer,
            after if block.accept != "stage" or (tested is not None and tested["passed"]) else best,
            shared.spent.since(before),
            scores.estimate.as_json(),
            scores.against(scores_before).as_json(),
            len(made),
            median(seconds) if seconds else 0.0,
            tested,
            within.recall("credit"),
        )
        best = outcome.candidate
        journal.keep("spent", shared.spent.as_json())
        journal.keep(f"stage/{key}", outcome.as_json())
        journal.tell(
            "stage_ended",
            name=stage.optimizer,
            validate=outcome.validate,
            gain=outcome.gain,
            changed=bool(change.as_overlay()),
        )
        outcomes.append(outcome)
    versions = [Candidate(), *(outcome.candidate for outcome in outcomes)]
    accepted = _accepted(block, confirmation, versions, outcomes, parts)
    journal.record("accepted", **accepted)
    test = _tested(unlimited, block.metric, outcomes, journal, scoring)
    before_all = chosen_by.of(Candidate()).estimate.as_json()
    return Outcome(versions[accepted["kept"]], before_all, best, accepted, outcomes, test, shared.spent)


def _finalists(program: Program, folder: Path, came_to: Sequence[Candidate], rows: int) -> Finalists:
    """Return the programs that the finished stages of the run in `folder` have scored on all choosing rows, `rows` in number;
    `program` is the program as written, and `came_to` what each of the stages came to."""
    best = came_to[-1] if came_to else Candidate()
    return Finalists(program.with_candidate(best.weights), words_of(read_trees(folder)[: len(came_to)], came_to, rows))


def most_repeats(block: Optimize) -> int:
    """Return how often each confirming row is run: the largest option `repeats` that a stage sets, 1 where none does."""
    written = [stage.options.get("repeats", 1) for stage in block.stages]
    return max((count for count in written if isinstance(count, int)), default=1)


def _of_stage(confirmation: Confirmation, versions: Sequence[Candidate], number: int, of: int) -> dict[str, Any] | None:
    """Return the test of the last of the versions, after stage `number`, against the one before it, as plain values; None
    where no row confirms. Its level is ALPHA (0.025) divided by `of`, the number of all stages."""
    if not confirmation.rows:
        return None
    return confirmation.test(versions, number, number - 1, ALPHA / of).as_json()


def _accepted(
    block: Optimize,
    confirmation: Confirmation,
    versions: Sequence[Candidate],
    outcomes: Sequence[StageOutcome],
    parts: DevSplit,
) -> dict[str, Any]:
    """Return the part `accepted` of the report: the rule, the tests, and in `kept` the number of the version that is kept (0:
    the program as written)."""
    kept, tests = 0, [outcome.test for outcome in outcomes if outcome.test is not None]
    if block.accept == "composition" and confirmation.rows:
        kept, made = confirmation.latest(versions)
        tests = [test.as_json() for test in made]
    elif block.accept != "composition":
        kept = next(number for number, version in enumerate(versions) if version.digest == versions[-1].digest)
    return {
        "rule": block.accept,
        "choose": len(parts.choose),
        "confirm": len(parts.confirm),
        "tests": tests,
        "kept": kept,
    }


class _ChoosingScores:
    """Scores of versions of the program on the dev rows that choose, each made once in the life of a run."""

    def __init__(
        self, program: Program, rows: Sequence[Row], metric: str, journal: Journal, seed: int, scoring: SplitScores
    ) -> None:
        self.program, self.rows, self.metric, self.journal, self.seed = program, rows, metric, journal, seed
        self.scoring = scoring

    def of(self, candidate: Candidate) -> Scores:
        """Return the scores of the program with a candidate applied; rows lost to outages are not among them. Raises
        ProviderError where outages left none."""
        key = f"choose/{candidate.digest}"
        kept = self.journal.recall(key)
        if kept is None:
            program = self.program.with_candidate(candidate)
            scores = self.scoring.of(program, self.rows, self.metric, options=RunOptions(seed=self.seed))
            _ = scores.estimate  # raises where nothing could be scored
            kept = list(scores.by_row.items())
            self.journal.keep(key, kept)
        return Scores.of_values(self.metric, [(row, value) for row, value in kept])


def _tested(
    program: Program, metric: str, outcomes: Sequence[StageOutcome], journal: Journal, scoring: SplitScores
) -> list[Scores]:
    """Return the scores on the test split of the program as written and after each stage; empty where there is no test
    split. Equal programs are scored once, also if the run is resumed, but where too many rows were lost to outages."""
    if TEST not in program.plan.data:
        return []
    rows = rows_of(program.plan, TEST)
    to_show = ShownRows(program.plan)
    scored: dict[str, Scores] = {}
    by_version: list[Scores] = []
    versions = [("as written", Candidate()), *((f"after {outcome.stage}", outcome.candidate) for outcome in outcomes)]
    for name, candidate in versions:
        digest = candidate.digest
        if digest not in scored:
            journal.tell("test_started", rows=len(rows), program=name)
            values = journal.recall(f"test/{digest}")
            # Where a provider was down, a resumed run scores again.
            if values is None or too_many_outages(values.count(None), len(values)):
                scores = scoring.of(program.with_candidate(candidate), rows, metric)
                values = [score.value for score in (scores if by_version else scores.checked()).rows]
                shown = {"answers": to_show.answers(scores), **({} if by_version else {"rows": to_show.rows(rows)})}
                journal.keep(f"kinds/{digest}", [score.kind for score in scores.rows])
                journal.keep(f"recovered/{digest}", to_show.recovered(scores))
                journal.keep(f"test/{digest}", values, metric=metric, **shown)
            kinds, answered = journal.recall(f"kinds/{digest}") or (), journal.recall(f"recovered/{digest}") or ()
            recovered = {entry["run"]: list(map(Recovered.from_json, entry["failures"])) for entry in answered}
            scored[digest] = Scores.of_values(metric, enumerate(values), kinds, recovered)
        by_version.append(scored[digest])
    return by_version
