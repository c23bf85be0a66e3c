"""The actors of the Ray runner: workers, which make runs, and the store of replies beside the driver. Imports no ray."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lmprog.compiler.plan import LM as Declared
from lmprog.compiler.replies.ending import ending
from lmprog.errors import BudgetExceeded, LmprogError
from lmprog.lms.answer_file import AnswerCache
from lmprog.lms.lm import LM, Completion, Request
from lmprog.lms.response_cache import as_kept, has_no_digest, key_of
from lmprog.runners.lent_gate import LentGates
from lmprog.runners.shipping import Built
from lmprog.runtime.execution import Execution
from lmprog.runtime.result import Result
from lmprog.runtime.runner import Job
from lmprog.spending.budget import Budget, Spent
from lmprog.version import __version__

HEARTBEAT = 0.5
"""Seconds after which a worker that has nothing to report has its next turn all the same."""
GATHER = 0.001
"""Seconds, for each run at work, in which runs that end are gathered for one message."""
MAX_GATHER = 0.05
"""The most seconds in which runs that end are gathered for one message: a part of what any model takes."""
COLLECT_AFTER = 20_000
"""Objects by which a worker must have grown before its garbage is collected: Python's own 700 are those of a few runs, of
which a worker has hundreds, and looking at them again and again took a fifth of its processor time.
"""


@dataclass(frozen=True)
class Lease:
    """The part of the driver's budget that one run may spend (`limits` by name), with the largest amounts of one call so
    far.

    `answers` is the name, as `Worker.keep` had it, of the actor that keeps the replies of an optimization (None: they are
    not kept).
    """

    limits: Mapping[str, float]
    largest: Spent
    answers: str | None = None
    """The name, as `keep` had it, of the actor that keeps the replies of the optimization; None where none are kept."""


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
    spent: Spent | None = None
    """The amounts spent; None without a lease."""
    largest: Spent | None = None
    """The largest amounts of one call; None without a lease."""
    began: float = 0.0
    ended: float = 0.0
    absent: bool = False
    """True if the worker has given the program up for others, and has to build it again."""


class Worker:
    """A Ray actor that makes runs, many at a time, of programs that it builds once each.

    Jobs come in messages of many (`give`), and what has ended is fetched in turns (`turn`): a message of Ray takes as much
    of a processor as a run.
    """

    def __init__(self, folder: str) -> None:
        self._gates = LentGates(self._wake)
        self._built = Built(self._gates.limit)
        self._stores: dict[str, Any] = {}
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._ended: list[tuple[int, Done]] = []
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = 0.0
        # Where the driver's files are at hand, what a tool opens is found as it is there; else in the working directory of Ray.
        with contextlib.suppress(OSError):
            os.chdir(folder)

    async def ready(self) -> str:
        """Return the version of lmprog on the worker, after its event loop and garbage collection are set up; to be
        called once, before any job."""
        self._loop = asyncio.get_running_loop()
        gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
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

    async def keep(self, name: str, store: list[Any]) -> None:
        """Take the actor (an AnswerStore) that keeps replies under a name, for leases that name it, in place of an
        earlier one of that name. `store` is a list of one, so that Ray passes the actor itself."""
        self._stores[name] = store[0]

    async def give(self, message: bytes) -> None:
        """Begin runs, and cancel others. The message has a list of jobs, each a number, the digest of its program and the
        bytes of a Job and a Lease or None; and a list of the numbers to cancel. An empty message asks for a turn soon.
        """
        jobs, cancelled = pickle.loads(message)
        for number, digest, data in jobs:
            self._runs[number] = asyncio.create_task(self._run(number, digest, data))
        for number in cancelled:
            if number in self._runs:
                self._runs[number].cancel()
        if not jobs and not cancelled:
            self._news.set()

    async def turn(self, message: bytes) -> bytes:
        """Take what the ledger lends, and return the runs that have ended and the present needs, once there is news of
        them, or after HEARTBEAT (0.5) seconds.

        The message is the pickled pair of the ledger's clock and the parts by LM; the answer that of a list of numbers
        of jobs with a Done each, and of the needs by LM.
        """
        sent, parts = pickle.loads(message)
        self._gates.receive(parts, self._told, sent)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT):
                await self._news.wait()
        await asyncio.sleep(min(GATHER * len(self._runs), MAX_GATHER))
        self._news.clear()
        ended, self._ended = self._ended, []
        self._told, needs = time.monotonic(), self._gates.needs()
        try:
            return pickle.dumps((ended, needs))
        except Exception:  # one result must not take the others with it
            return pickle.dumps(([(number, _sendable(done)) for number, done in ended], needs))

    def _wake(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._news.set)

    async def _run(self, number: int, digest: str, data: bytes) -> None:
        try:
            done = await self._done(digest, *pickle.loads(data))
        except Exception as error:
            done = Done(None, portable(LmprogError(f"{type(error).__name__}: {error}")))
        finally:
            del self._runs[number]
        self._ended.append((number, done))
        self._news.set()

    async def _done(self, digest: str, job: Job, lease: Lease | None) -> Done:
        """Make a run within the part of the budget in `lease` (None: no limit), and return its result, an error that
        concerns more than this run, or the limit that it has spent.

        Where the worker no longer has the program, the answer is `absent`.
        """
        program = self._built.get(digest)
        if program is None:
            return Done(None, absent=True)
        budget, resources = None, program.resources
        if lease is not None:
            kept = KeptBeside(self._stores[lease.answers]) if lease.answers is not None else None
            budget = Budget(lease.limits, answers=kept)
            budget.largest = lease.largest
            resources = resources.charged_to(budget)
        execution = Execution(program.plan, program.lms, resources, job.options, job.example, job.parent)
        began = time.time()
        result, error, limit = None, None, ""
        try:
            outputs, failure = await execution.execute(job.inputs)
            run = execution.run
            result = Result(outputs, run.records(), failure, recovered=run.recovered())
        except BudgetExceeded as refused:
            limit = refused.limit
        except LmprogError as raised:
            error = portable(raised)
        spent = replace(budget.spent, seconds=0.0) if budget is not None else None
        return Done(result, error, limit, spent, budget.largest if budget is not None else None, began, time.time())


class AnswerStore:
    """A Ray actor on the driver's machine that keeps the replies of an optimization in its run folder."""

    def __init__(self, folder: str) -> None:
        self._cache = AnswerCache(Path(folder))

    async def get(self, key: str) -> dict[str, Any] | None:
        """Return the reply that is kept under a key, as plain values by field of Completion; None where there is
        none."""
        return self._cache.get(key)

    async def put(self, key: str, value: dict[str, Any]) -> None:
        """Store a reply, as plain values by field of Completion, under a key, in place of one that is there; it is in the
        file when this returns, but for a file that cannot be written.
        """
        self._cache.put(key, value, instead=True)


class KeptBeside:
    """The kept replies of one optimization for a worker, by way of the driver's AnswerStore; it stands in for
    RunResponseCache.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    async def complete(self, lm: LM, request: Request, declared: Declared | None) -> Completion:
        """Return the stored reply, or send the request to `lm` and store the reply. Calls of a local LM, of one without
        a declaration (None), and requests that have no digest are always sent, and a failed reply is not stored. Raises
        the errors of `lm`, and Ray's where the store is lost."""
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


def _sendable(done: Done) -> Done:
    try:
        pickle.dumps(done)
        return done
    except Exception as error:
        return replace(
            done, result=None, error=LmprogError(f"the result of a run cannot be sent to the driver: {error}")
        )


def portable(error: LmprogError) -> LmprogError:
    """Return an error that can be sent to another process: itself, or where it cannot be pickled an LmprogError with
    the same text and exit status."""
    try:
        again = pickle.loads(pickle.dumps(error))
        if str(again) == str(error):
            return error
    except Exception:  # what an exception of a tool or a backend holds is not known
        pass
    found = LmprogError(str(error))
    found.exit_status = error.exit_status
    return found
