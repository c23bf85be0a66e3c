"""The adapter between the gepa library and a program: texts by module, runs on rows, and material for the proposer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gepa import EvaluationBatch

from lmprog.aio.loops import run_async
from lmprog.compiler.rows.feedback import FEEDBACK_COLUMNS, has_feedback, said_of
from lmprog.errors import Handled
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.evaluation import CandidateEvaluator
from lmprog.optimizers.optimizer import Row, Task
from lmprog.runtime.options import RunOptions
from lmprog.scoring.evaluation import RowScore, aevaluate

SHOWN = 2000
"""Characters of one value that a proposer is shown."""
Texts = dict[str, str]


class MetricCallsExhausted(Handled):
    """The error for an evaluation by which the stage would exceed its `max_metric_calls`."""


@dataclass(frozen=True)
class Place:
    """A row that gepa may run: its split (`part`, `train` or `dev`) and its index there, from 0."""

    part: str
    index: int


class ProgramAdapter:
    """The program as the gepa library runs it (its adapter protocol). Each candidate is run on a row once; the journal
    keeps the result. `most` is the largest number of runs that gepa may ask for (`max_metric_calls`), those counted that are
    not made; `evaluator` has the dev rows and the filters.
    """

    propose_new_texts = None

    def __init__(self, task: Task, evaluator: CandidateEvaluator, most: int) -> None:
        self.task, self.evaluator, self.most = task, evaluator, most
        plan = task.program.plan
        assert plan.optimize is not None
        self.start: Texts = {
            id: plan.modules[id].instructions or ""
            for id, parts in plan.optimize.tune.items()
            if "instructions" in parts
        }
        self.of_use = has_feedback(plan, plan.optimize.train)
        self.low, self.high = plan.metrics[task.metric].range
        self.rows: Mapping[str, Sequence[Row]] = {"train": task.train, "dev": evaluator.rows}
        self.runs: dict[tuple[str, Place], dict[str, Any]] = {}
        self.counted = 0

    def candidate_of(self, texts: Texts) -> Candidate:
        """Return the candidate for instructions by module, the form in which gepa holds candidates; modules whose
        instructions are those of the start are not in it."""
        return Candidate(instructions={id: text for id, text in texts.items() if text != self.start[id]})

    def evaluate(
        self, batch: list[Place], candidate: Texts, capture_traces: bool = False
    ) -> EvaluationBatch[dict[str, Any], Any]:
        """Run and score the instructions `candidate` (by module) on the rows of `batch`; return one score a row, in the
        order of `batch`, and the run's feedback and calls (`trajectories`, whatever `capture_traces` says). The
        `outputs` are None.

        A candidate that a filter rejects gets the metric's lowest score, and is not run; a run that an outage ended has it
        too, with a note. Raises MetricCallsExhausted where more runs than `most` would be asked for, ProviderError where
        outages ended all new runs, MetricFailed where the metric raised in all runs of the start, and BudgetExceeded.
        """
        if self.counted + len(batch) > self.most:
            raise MetricCallsExhausted
        self.counted += len(batch)
        change = self.candidate_of(candidate)
        if self.evaluator.rejects(change):
            runs = [{"score": self.low, "feedback": "refused before it was run", "calls": []} for _ in batch]
        else:
            runs = run_async(lambda: self._run(change, batch))
        scores = [self.low if run["score"] is None else run["score"] for run in runs]
        return EvaluationBatch(
            outputs=[None] * len(batch),
            scores=scores,
            trajectories=[{**run, "place": place} for run, place in zip(runs, batch, strict=True)],
        )

    async def _run(self, change: Candidate, batch: list[Place]) -> list[dict[str, Any]]:
        missing = [place for place in dict.fromkeys(batch) if (change.digest, place) not in self.runs]
        if missing:
            rows = [self.rows[place.part][place.index] for place in missing]
            program = self.task.program.with_candidate(change)

            async def work() -> list[dict[str, Any]]:
                scores = await aevaluate(program, rows, self.task.metric, options=RunOptions(seed=self.task.seed))
                if change == START:
                    scores.checked()
                _ = scores.estimate  # raises where nothing could be scored
                return [self._kept(scored) for scored in scores.rows]

            named = ",".join(f"{place.part[0]}{place.index}" for place in missing)
            kept = await self.task.journal.once(f"runs/{change.digest}/{named}", work)
            self.runs.update({(change.digest, place): run for place, run in zip(missing, kept, strict=True)})
            lost = sum(run["score"] is None for run in kept)
            if lost:
                text = f"an outage left {lost} of {len(kept)} rows without a score; gepa takes them for the lowest"
                self.task.journal.note(text)
        return [self.runs[change.digest, place] for place in batch]

    def _kept(self, scored: RowScore) -> dict[str, Any]:
        """Return the part of a run that is kept, as plain values: `score` (None: an outage ended it), `feedback`, and the
        `calls` of tuned modules with values cut after SHOWN (2,000) characters."""
        calls = [
            {"module": made.module, "inputs": _short(made.inputs), "reply": _short(made.text), "error": made.error}
            for made in scored.result.trace
            if made.module in self.start and made.parent is None
        ]
        return {"score": scored.value, "feedback": scored.feedback or scored.cause, "calls": calls}

    def make_reflective_dataset(
        self, candidate: Texts, eval_batch: EvaluationBatch[dict[str, Any], Any], components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return for each module in `components_to_update` that was called a mapping for each of its calls in `eval_batch`,
        in their order, for the proposer to read: `Inputs`, `Generated Outputs`, `Feedback`, and in `Wanted of the whole
        program` the columns of the row that are no inputs, if any. Where the train rows are recorded use, what people said is
        in `Feedback`, and their columns of feedback are left out. Values are cut after SHOWN (2,000) characters."""
        found: dict[str, list[dict[str, Any]]] = {}
        for run in eval_batch.trajectories or ():
            place = run["place"]
            row = self.rows[place.part][place.index]
            inputs = self.task.program.inputs_of(row)
            of_use = place.part == "train" and self.of_use
            hidden = {*inputs, *(FEEDBACK_COLUMNS if of_use else ())}
            known = {name: _short(value) for name, value in row.items() if name not in hidden}
            if of_use:  # an answer that was wrong, and not corrected, has no label
                known = {name: value for name, value in known.items() if value is not None}
            said = f"The run scored {run['score']} ({self.low} to {self.high}). {run['feedback'] or ''}".strip()
            if of_use and (words := said_of(row)) is not None:
                said += f" {words[:SHOWN]}"
            for call in run["calls"]:
                if call["module"] in components_to_update:
                    feedback = said + (f" The reply could not be read: {call['error']}" if call["error"] else "")
                    entry = {"Inputs": call["inputs"], "Generated Outputs": call["reply"], "Feedback": feedback}
                    found.setdefault(call["module"], []).append(
                        {**entry, "Wanted of the whole program": known} if known else entry
                    )
        return found


def _short(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _short(inner) for name, inner in value.items()}
    return None if value is None else str(value)[:SHOWN]
