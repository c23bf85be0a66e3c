"""A run of the `gepa` stage: the gepa library, with the journal and budget of lmprog around it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import gepa

from lmprog.aio.loops import run_async
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.errors import BudgetExceeded, UsageError
from lmprog.lms.lm import Request
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.evaluation import CandidateEvaluator, Scored
from lmprog.optimizers.gepa.adapter import MetricCallsExhausted, Place, ProgramAdapter
from lmprog.optimizers.gepa.config import Config
from lmprog.optimizers.optimizer import Task
from lmprog.runtime.replies import free_text
from lmprog.seeds import derive


class _Silent:
    """A logger for gepa that writes nothing, since the journal shows what a user should know."""

    def log(self, message: str) -> None:
        pass


class Reflection:
    """A run of the `gepa` stage. Raises UsageError without a proposer, without instructions to tune, and for too small a
    `max_metric_calls`.

    A resumed run calls gepa again from the start, with recorded results in place of runs: gepa draws by the task's seed
    alone, so that it asks for the same ones.
    """

    def __init__(self, task: Task, config: Config) -> None:
        plan = task.program.plan
        if plan.optimize is None or plan.optimize.proposer is None:
            raise UsageError("gepa needs an LM that writes instructions; name one of `lms` as optimize.proposer")
        self.task, self.config = task, config
        self.evaluator = CandidateEvaluator(task, repeats=config.repeats)
        self.front = min(config.pareto_rows, len(task.dev))
        self.adapter = ProgramAdapter(task, self.evaluator, config.max_metric_calls)
        if not self.adapter.start:
            raise UsageError("gepa has nothing to tune: name `instructions` for a module under optimize.tune")
        least = self.front + 2 * config.minibatch
        if config.max_metric_calls < least:
            raise UsageError(
                f"gepa cannot begin with max_metric_calls: {config.max_metric_calls}; the dev rows and one reflection "
                f"take {least}; raise it, or lower pareto_rows"
            )
        self.declared = plan.lms[plan.optimize.proposer]
        self.proposer = task.budget.meter(task.program.lms[self.declared.id], self.declared)
        self.known: dict[int, Candidate] = {}
        """Candidates by gepa's index."""
        self.asked = 0
        self.failure: Exception | None = None

    def run(self) -> Candidate:
        """Search until `max_metric_calls` are made or the budget is spent; return the candidate that is best on all choosing
        dev rows, or START, no change, where none is better than the start.

        A budget that is spent after the start was scored is only noted, and the scores so far decide. Raises BudgetExceeded
        before, and ProviderError where outages leave nothing to score or end the proposer's call.
        """
        try:
            self._search()
        except MetricCallsExhausted:
            pass
        except BudgetExceeded as error:
            self.failure = error
        if self.failure is not None and not isinstance(self.failure, BudgetExceeded):
            raise self.failure
        if START.digest not in self.evaluator.scored:
            assert self.failure is not None
            raise self.failure
        try:
            if self.failure is None:
                return run_async(lambda: self.evaluator.select(self.config.finalists))
        except BudgetExceeded as error:
            self.failure = error
        self.task.journal.note(f"{self.failure}; gepa ends with its best so far")
        return self.evaluator.best_so_far()

    def _search(self) -> None:
        gepa.optimize(
            seed_candidate=self.adapter.start,
            trainset=[Place("train", index) for index in range(len(self.task.train))],
            valset=[Place("dev", index) for index in range(self.front)],
            adapter=self.adapter,
            reflection_lm=self._reflect,
            perfect_score=self.adapter.high,
            reflection_minibatch_size=min(self.config.minibatch, len(self.task.train)),
            use_merge=self.config.merges > 0 and len(self.adapter.start) > 1,
            max_merge_invocations=self.config.merges,
            max_metric_calls=self.config.max_metric_calls,
            callbacks=[self],
            stop_callbacks=[lambda state: self.failure is not None],
            logger=_Silent(),
            track_best_outputs=False,
            seed=self.task.seed % 2**32,
        )

    def _reflect(self, prompt: str | list[dict[str, Any]]) -> str:
        """Return the proposer's reply to gepa's prompt (a text, or the messages of a chat), without the model's thinking;
        recorded, so that a resumed run sends nothing.

        gepa passes over what is raised here: an unreadable or empty reply is left out so (Unreadable); other failures are
        kept in `failure`, and end the search.
        """
        if self.failure is not None:
            raise self.failure
        number, self.asked = self.asked, self.asked + 1
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        request = Request(
            messages=messages,
            params={"temperature": 1.0, **self.declared.params},
            seed=derive(self.task.seed, "reflection", number),
            key=("reflection", number),
        )

        async def work() -> str:
            completion = await self.proposer.complete(request)
            try:
                return free_text(completion)
            except Unreadable as error:
                self.task.journal.note(f"a reflection is passed over: {error}")
                return ""

        digest = hashlib.sha256(str(messages).encode(errors="surrogatepass")).hexdigest()[:16]
        try:
            text: str = run_async(lambda: self.task.journal.once(f"reflection/{number}/{digest}", work))
        except Exception as error:
            self.failure = error
            raise
        if not text:
            raise Unreadable("the reflection gave no text")
        return text

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """Take over a candidate that gepa has run on all its dev rows; the gepa library calls this with an `event`.

        An error is raised, and kept in `failure` too, since gepa ignores what is raised here.
        """
        try:
            self._enter(event)
        except Exception as error:
            self.failure = error
            raise

    def _enter(self, event: Mapping[str, Any]) -> None:
        """Keep the scores of a candidate on gepa's dev rows, with what it was derived from; of one that was not run (a filter
        rejects it) only its index."""
        change = self.adapter.candidate_of(event["candidate"])
        self.known[event["candidate_idx"]] = change
        places = [Place("dev", index) for index in range(self.front)]
        runs = [self.adapter.runs.get((change.digest, place)) for place in places]
        scores = {str(index): run["score"] for index, run in enumerate(runs) if run and run["score"] is not None}
        if scores and all(run is not None for run in runs):
            self.evaluator.scored[change.digest] = Scored(change, scores, len(places))
            parents = [self.known[index] for index in event["parent_ids"]]
            self.evaluator.remember(change, parents, scores)
            self.evaluator.tell(change, self.config.max_metric_calls // len(places) - 1)
