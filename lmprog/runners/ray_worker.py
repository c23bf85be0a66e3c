"""The actors of the Ray runner: workers, which make runs, and the store of replies beside the driver. Imports no ray."""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lmprog.compiler.plan import LM as Declared
from lmprog.compiler.replies.ending import ending
from lmprog.errors import BudgetExceeded, LmprogError
from lmprog.lms.answer_file import AnswerCache
from lmprog.lms.lm import LM, Completion, Request
from lmprog.lms.response_cache import as_kept, has_no_digest, key_of
from lmprog.runners.shipping import Built, Share
from lmprog.runtime.execution import Execution
from lmprog.runtime.result import Result
from lmprog.runtime.runner import Job
from lmprog.spending.budget import Budget, Spent
from lmprog.version import __version__


@dataclass(frozen=True)
class Lease:
    """The part of the driver's budget that one run may spend (`limits` by name), with the largest amounts of one call so
    far.

    `answers` is the actor that keeps the replies of an optimization (None: they are not kept).
    """

    limits: Mapping[str, float]
    largest: Spent
    answers: Any = None
    """The actor that keeps the replies of the optimization; None where none are kept."""


@dataclass(frozen=True)
class Done:
    """The answer of a worker to a job: its result (None: it has none), or an error that concerns more than this run
    (None: there is none), with what was spent and the largest amounts of one call.

    `spent_limit` names the limit of the lease that ended the run (empty: none); `began` and `ended` are in seconds
    since 1970. `absent` is True where the worker no longer has the program, and must build it again.
    """

    result: Result | None
    error: LmprogError | None = None
    spent_limit: str = ""
    """The limit of the lease that is spent, where that ended the run."""
    spent: Spent = field(default_factory=Spent)
    largest: Spent = field(default_factory=Spent)
    began: float = 0.0
    ended: float = 0.0
    absent: bool = False
    """True if the worker has given the program up for others, and has to build it again."""


class Worker:
    """A Ray actor that makes runs, many at a time, of programs that it builds once each."""

    def __init__(self, index: int, of: int, folder: str) -> None:
        self._built = Built(Share(index, of))
        # Where the driver's files are at hand, what a tool opens is found as it is there; else in the working directory of Ray.
        with contextlib.suppress(OSError):
            os.chdir(folder)

    async def ready(self) -> str:
        """Return the version of lmprog on the worker; it answers once it is ready for jobs."""
        return __version__

    async def build(self, digest: str, data: list[Any]) -> str | None:
        """Build the program with this digest before its first run; return a message on why it cannot be built, or None.

        `data` is a list with the Ray reference to the program's bytes.
        """
        packed = await data[0]
        try:
            self._built.build(digest, packed)
        except Exception as error:  # of another version, or of a package that this node lacks
            return f"{type(error).__name__}: {error}"
        return None

    async def run(self, digest: str, job: Job, lease: Lease | None) -> Done:
        """Make the run `job` of the program with this digest, within the part of the budget in `lease` (None: no limit).

        Where the worker no longer has the program, the answer is `absent`.
        """
        program = self._built.get(digest)
        if program is None:
            return Done(None, absent=True)
        budget = None
        if lease is not None:
            kept = KeptBeside(lease.answers) if lease.answers is not None else None
            budget = Budget(lease.limits, answers=kept)
            budget.largest = lease.largest
        resources = program.resources.charged_to(budget)
        execution = Execution(program.plan, program.lms, resources, job.options, job.example, job.parent)
        began = time.time()
        result, error, limit = None, None, ""
        try:
            outputs, failure = await execution.execute(job.inputs)
            result = Result(outputs, execution.run.records(), failure)
        except BudgetExceeded as refused:
            limit = refused.limit
        except LmprogError as raised:
            error = portable(raised)
        spent = replace(budget.spent, seconds=0.0) if budget is not None else Spent()
        largest = budget.largest if budget is not None else Spent()
        return Done(result, error, limit, spent, largest, began, time.time())


class AnswerStore:
    """A Ray actor on the driver's machine that keeps the replies of an optimization in its run folder."""

    def __init__(self, folder: str) -> None:
        self._cache = AnswerCache(Path(folder))

    async def get(self, key: str) -> dict[str, Any] | None:
        """Return the reply that is kept under a key, as plain values by field of Completion; None where there is
        none."""
        return self._cache.get(key)

    async def put(self, key: str, value: dict[str, Any]) -> None:
        """Keep a reply under a key; it is in the file when this returns."""
        self._cache.put(key, value, instead=True)


class KeptBeside:
    """The kept replies of one optimization for a worker, by way of the driver's AnswerStore; it stands in for
    RunResponseCache.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    async def complete(self, lm: LM, request: Request, declared: Declared | None) -> Completion:
        """Return the stored reply, or send the request to `lm` and store the reply. Calls of a local LM, of one without
        a declaration (None), and requests that have no digest are always sent, and a failed reply is not stored."""
        if declared is None or declared.runs_here or has_no_digest(request):
            return await lm.complete(request)
        key = key_of(request, declared.model, "")
        found = await self._store.get.remote(key)
        if found is not None and (kept := as_kept(found)) is not None:
            return kept
        completion = await lm.complete(request)
        if ending(completion.finish_reason) != "failed":
            await self._store.put.remote(key, asdict(completion))
        return completion


def portable(error: LmprogError) -> LmprogError:
    """Return an error that can be sent to another process: itself, or one with the same text and exit status."""
    try:
        again = pickle.loads(pickle.dumps(error))
        if str(again) == str(error):
            return error
    except Exception:  # what an exception of a tool or a backend holds is not known
        pass
    found = LmprogError(str(error))
    found.exit_status = error.exit_status
    return found
