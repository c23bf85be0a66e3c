"""The `tests:` of a program: examples whose outputs are compared, and gates that a score has to reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmprog.blame import is_outage
from lmprog.compiler.spec_tests import ExampleTest, GateTest
from lmprog.errors import InfrastructureError, LmprogError
from lmprog.runtime.program import Program
from lmprog.runtime.result import Result
from lmprog.scoring.data import rows_of
from lmprog.scoring.evaluation import aevaluate
from lmprog.scoring.expectations import CLOSE, SHOWN, differences, untrue
from lmprog.scoring.metrics import Scorer
from lmprog.scoring.recovered import recovered_runs
from lmprog.scoring.statistics import Estimate
from lmprog.scoring.trace_scope import trace_of
from lmprog.traces.record import Record

Test = ExampleTest | GateTest
Status = Literal["passed", "failed", "error", "ran"]
"""The status of a test: `ran` is that of a dry run that came to its end, in which nothing was compared."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one test of a spec, by the test's name; its `status` is passed, failed, error, or, in a dry run,
    ran.

    `error` is an outage or a failure of the machine, which says nothing about the program. `message` says why the test
    did not pass, and of one that passed its score and the failures that an `on_error` answered (empty: neither);
    `seconds` is its time, `score` the score of a gate (None: it is no gate, or was not scored), and `records` are its
    calls of LMs and tools, those of judges included.
    """

    spec: Path
    name: str
    status: Status
    message: str = ""
    """The reason why the test did not pass, a line for each difference; where it passed, the score of a gate or by the
    test's metric, else empty."""
    seconds: float = 0.0
    score: Estimate | None = None
    """The score of a gate; None for other tests, and where a gate has none."""
    records: Sequence[Record] = ()
    """Calls of LMs and tools, of judges too."""

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as a dictionary: `spec`, `name`, `status`, `message`, `seconds`, and for a gate that has a
        score `score`, with `mean`, `ci95` and `n`.

        The key is absent where a gate ended before it had a score, and in a dry run.
        """
        found = {"spec": str(self.spec), "name": self.name, "status": self.status, "message": self.message}
        score = {"score": {**self.score.as_json(), "n": self.score.n}} if self.score is not None else {}
        return {**found, **score, "seconds": self.seconds}


def size_of(program: Program, tests: Sequence[Test]) -> int:
    """Return how many runs of the program the tests make: one for an example, and for a gate one for each of its rows.
    Raises RowsError where the rows of a gate cannot be read."""
    return sum(len(rows_of(program.plan, test.data)) if isinstance(test, GateTest) else 1 for test in tests)


async def outcomes(
    program: Program,
    spec: Path,
    tests: Sequence[Test],
    on_run: Callable[[], None] | None = None,
    compared: bool = True,
) -> AsyncIterator[Outcome]:
    """Run the tests of `spec` and yield their outcomes in the order of `tests`: examples all at once, gates one after
    the other.

    At most the program's concurrency of examples run at a time. `on_run` is called after each run, for a progress bar
    (None: nothing is). With `compared` False (a dry run) outputs and scores are not looked at: a test `ran` where none
    of its runs fails. Nothing is raised for a test, also not BudgetExceeded: its outcome has the error.
    """
    tell = on_run or (lambda: None)
    gate = asyncio.Semaphore(program.concurrency)

    async def one(test: ExampleTest) -> Outcome:
        async with gate:
            return await _example(program, spec, test, tell, compared)

    examples = {test.name: asyncio.create_task(one(test)) for test in tests if isinstance(test, ExampleTest)}
    try:
        for test in tests:
            if isinstance(test, ExampleTest):
                yield await examples[test.name]
            else:
                yield await _gate(program, spec, test, tell, compared)
    finally:
        for task in examples.values():
            task.cancel()
        await asyncio.gather(*examples.values(), return_exceptions=True)


async def _example(
    program: Program, spec: Path, test: ExampleTest, tell: Callable[[], None], compared: bool
) -> Outcome:
    started = time.perf_counter()
    records: Sequence[Record] = ()
    judged: list[Record] = []
    status: Status = "passed"
    message = ""
    try:
        result = await program.run(test.inputs, example=f"test {test.name}")
        records = result.records
        answered = [str(each) for each in recovered_runs([("", result)])]
        if result.error is not None:
            status, message = "error" if is_outage(result.error.kind) else "failed", str(result.error)
        elif compared:
            wrong = [*differences(test.expect, result.outputs or {}), *_untrue(program, test, result)]
            right: list[str] = []
            if test.metric is not None:
                line, reached = await _scored(program, test, result, judged)
                (right if reached else wrong).append(line)
            status, message = "failed" if wrong else "passed", "\n".join([*(wrong or right), *answered])
        else:
            status, message = "ran", "\n".join(["what it expects is not compared with fake replies", *answered])
    except LmprogError as error:
        status, message = _of(error), str(error)
    tell()
    return Outcome(spec, test.name, status, message, time.perf_counter() - started, records=[*records, *judged])


def _untrue(program: Program, test: ExampleTest, result: Result) -> list[str]:
    plan = program.plan
    inputs = {name: field.default for name, field in plan.inputs.items()} | dict(test.inputs)
    scope = {"inputs": inputs, "outputs": result.outputs, "vars": plan.vars, "trace": trace_of(plan, result.records)}
    return untrue(test.asserts, scope)


async def _scored(program: Program, test: ExampleTest, result: Result, judged: list[Record]) -> tuple[str, bool]:
    """Return a line with the score of an example by the test's metric and the metric's words, and whether the score is at
    least what the test wants. Calls of judges are added to `judged`. Raises what `Scorer.score` raises."""
    assert test.metric is not None
    name = f"test {test.name}"
    score = await Scorer(program, test.metric).score(test.inputs, test.row, result, example=name, judged=judged)
    reached = score.value >= test.at_least - CLOSE
    words = f": {' '.join(score.feedback.split())[:SHOWN]}" if score.feedback else ""
    return f"{test.metric} {score.value:g}, {'at least' if reached else 'below'} {test.at_least:g}{words}", reached


async def _gate(program: Program, spec: Path, test: GateTest, tell: Callable[[], None], compared: bool) -> Outcome:
    started = time.perf_counter()
    score: Estimate | None = None
    records: list[Record] = []
    status: Status
    try:
        rows = rows_of(program.plan, test.data)
        scores = await aevaluate(program, rows, test.metric, on_row=lambda row: tell())
        records = [record for row in scores.rows for record in (*row.earlier, *row.result.records, *row.judged)]
        score = scores.checked().estimate
        if scores.errors:
            status = "error"
            message = f"{test.metric} {score} on the other {score.n} rows of {test.data}"
        elif not compared:
            score = None
            status = "failed" if scores.causes or scores.failures else "ran"
            message = f"{len(rows)} rows of {test.data} were run; the score of fake replies is not compared"
        else:
            reached = score.mean >= test.at_least - CLOSE
            status = "passed" if reached else "failed"
            low = "at least" if reached else "below"
            message = f"{test.metric} {score} on {score.n} rows of {test.data}: {low} {100 * test.at_least:g}%"
        causes = {**scores.causes, **scores.failures}
        failed = [f"{count} runs failed ({kind}): {first}" for kind, (count, first) in causes.items()]
        message = "\n".join([*failed, *map(str, scores.recovered), message])
    except LmprogError as error:
        status, message = _of(error), str(error)
    return Outcome(spec, test.name, status, message, time.perf_counter() - started, score, records)


def _of(error: LmprogError) -> Literal["failed", "error"]:
    return "error" if isinstance(error, InfrastructureError) else "failed"
