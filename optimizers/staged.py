"""The stages of a program's `optimize`, one after the other, each from the best program so far; then the sealed test.

Nothing here reads the test split before the last stage has ended. Then the program before, and the program after each
stage, are scored on it once, on the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median
from typing import Any

from lmprog.blame import too_many_outages
from lmprog.budget import Budget, Spent
from lmprog.cache import AnswerCache
from lmprog.compiler.plan import Optimize, Stage
from lmprog.data import rows_of
from lmprog.errors import BudgetExceeded, UsageError
from lmprog.evaluation import Scores, evaluate
from lmprog.lms.kept import RunAnswers
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.journal import Journal
from lmprog.optimizers.optimizer import Optimizer, Task, find
from lmprog.optimizers.shown_rows import ShownRows
from lmprog.program import Program, RunOptions
from lmprog.seeds import derive

TEST = "test"


@dataclass(frozen=True)
class StageOutcome:
    """What one stage came to. `candidate` is the whole change since the program as written."""

    stage: str
    candidate: Candidate
    spent: Spent
    validate: dict[str, Any]
    steps: int
    step_seconds: float
    credit: dict[str, Any] | None = None
    """How much of the reward's variance each module accounts for, where the stage has reported it."""

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "candidate": self.candidate.as_json(),
            "spent": self.spent.as_json(),
            "validate": self.validate,
            "steps": self.steps,
            "step_seconds": self.step_seconds,
            "credit": self.credit,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> StageOutcome:
        fields = {**values, "candidate": Candidate.from_json(values["candidate"]), "spent": Spent(**values["spent"])}
        return StageOutcome(**fields)


@dataclass(frozen=True)
class Outcome:
    """The end of a run. `test` holds the scores of the program as written and after each stage, or is empty."""

    candidate: Candidate
    stages: Sequence[StageOutcome]
    test: Sequence[Scores]
    spent: Spent


def goals_of(program: Program) -> Optimize:
    """What the program wants optimized. Raises UsageError where it does not say."""
    goals = program.plan.optimize
    if goals is None:
        raise UsageError(f"{program.plan.name} has no `optimize:`; name a metric, what to tune, and the stages")
    return goals


def make(stage: Stage) -> Optimizer:
    """The optimizer of a stage with its options, which the compiler has checked where it could."""
    optimizer = find(stage.optimizer)
    return optimizer(optimizer.Config.model_validate(dict(stage.options)))


def run_stages(program: Program, seed: int, budget: Mapping[str, float], journal: Journal) -> Outcome:
    """Run what is not in the journal yet, and score the test split where the program has one."""
    with closing(AnswerCache(journal.folder)) as kept:
        return _run(program, seed, budget, journal, RunAnswers(kept))


def _run(program: Program, seed: int, budget: Mapping[str, float], journal: Journal, answers: RunAnswers) -> Outcome:
    goals = goals_of(program)
    train, dev = rows_of(program.plan, goals.train), rows_of(program.plan, goals.validate)
    spent_before = journal.recall("spent")
    purse = Budget(budget, Spent(**spent_before) if spent_before else None, answers)
    metered = program.with_budget(purse)
    # What a run reports of its stages, and the test, are scored apart from the budget: not paid for out of the search.
    unlimited = program.with_budget(Budget({}, answers=answers))
    best = Candidate()
    outcomes: list[StageOutcome] = []
    for number, stage in enumerate(goals.stages, 1):
        key = f"{number}-{stage.optimizer}"
        kept = journal.recall(f"stage/{key}")
        if kept is not None:
            best = Candidate.from_json(kept["candidate"])
            if "validate" not in kept:  # a later stage was restarted, on other rows or with another metric
                options = RunOptions(seed=seed)
                scores = evaluate(unlimited.with_candidate(best), dev, goals.metric, options=options)
                kept = {**kept, "validate": scores.estimate.as_json()}
                journal.keep(f"stage/{key}", kept)
            outcomes.append(StageOutcome.from_json(kept))
            journal.tell("stage_kept", number=number, of=len(goals.stages), stage=stage.optimizer)
            continue
        journal.record("stage_started", number=number, of=len(goals.stages), name=stage.optimizer)
        before = purse.spent
        within = journal.within(key, purse)
        start = metered.with_candidate(best)
        stage_seed = derive(seed, number, stage.optimizer)
        task = Task(start, train, dev, goals.metric, purse, within, stage_seed)
        try:
            change = make(stage).optimize(task)
        except BudgetExceeded as error:
            journal.note(f"{error}; {stage.optimizer} changed nothing")
            change = Candidate()
        best = best.then(change)
        spent = purse.spent.since(before)
        validate = evaluate(unlimited.with_candidate(best), dev, goals.metric, options=RunOptions(seed=seed)).estimate
        seconds = [event["seconds"] for event in journal.events if event["event"] == "step" and event["stage"] == key]
        outcome = StageOutcome(
            stage.optimizer,
            best,
            spent,
            validate.as_json(),
            len(seconds),
            median(seconds) if seconds else 0.0,
            within.recall("credit"),
        )
        journal.keep("spent", purse.spent.as_json())
        journal.keep(f"stage/{key}", outcome.as_json())
        journal.tell("stage_ended", name=stage.optimizer, validate=outcome.validate, changed=bool(change.as_overlay()))
        outcomes.append(outcome)
    return Outcome(best, outcomes, _tested(unlimited, goals.metric, outcomes, journal), purse.spent)


def _tested(program: Program, metric: str, outcomes: Sequence[StageOutcome], journal: Journal) -> list[Scores]:
    """Scores on the test split before and after each stage. Equal programs are scored once."""
    if TEST not in program.plan.data:
        return []
    rows = rows_of(program.plan, TEST)
    to_show = ShownRows(program.plan)
    scored: dict[str, Scores] = {}
    found: list[Scores] = []
    versions = [("as written", Candidate()), *((f"after {outcome.stage}", outcome.candidate) for outcome in outcomes)]
    for name, candidate in versions:
        digest = candidate.digest
        if digest not in scored:
            journal.tell("test_started", rows=len(rows), program=name)
            kept = journal.recall(f"test/{digest}")
            # Where a provider was down, a resumed run scores again.
            if kept is None or too_many_outages(kept.count(None), len(kept)):
                scores = evaluate(program.with_candidate(candidate), rows, metric)
                kept = [score.value for score in (scores if found else scores.checked()).rows]
                shown = {"answers": to_show.answers(scores), **({} if found else {"rows": to_show.rows(rows)})}
                journal.keep(f"kinds/{digest}", [score.kind for score in scores.rows])
                journal.keep(f"test/{digest}", kept, metric=metric, **shown)
            scored[digest] = Scores.of_values(metric, enumerate(kept), journal.recall(f"kinds/{digest}") or ())
        found.append(scored[digest])
    return found
