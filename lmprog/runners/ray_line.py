"""The messages between the driver and the workers of Ray: many jobs and results in each, carried by one thread.

While the thread waits for the interpreter, jobs gather: the busier the driver, the longer its messages and the fewer.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from queue import SimpleQueue
from typing import Any

from lmprog.errors import Handled, LmprogError
from lmprog.runners.ledger import Ledger, Part
from lmprog.runners.ray_worker import Done

log = logging.getLogger(__name__)


class WorkerLost(Handled):
    """The error for a job whose worker has died: another one can make the run."""


class Line:
    """The line from the driver to one worker: the jobs that wait to be sent there, and the futures of those that were."""

    def __init__(self, index: int, actor: Any, post: Post, lost: Callable[[], None]) -> None:
        self.index, self.actor, self.lost = index, actor, lost
        self._post = post
        self._lock = threading.Lock()
        self._numbers = count()
        self._jobs: list[tuple[int, str, bytes]] = []
        self._cancelled: list[int] = []
        self._expected: dict[int, asyncio.Future[Done]] = {}
        self._posted = self._closed = False
        self.nudged = False
        """True if the worker should have a turn soon, and was not yet asked to."""
        self.turn: Any = None
        """The reference of the turn that the worker has; None before the first."""
        self.turned = True
        """True if the worker's turn has ended, so that it can have another."""

    async def done(self, digest: str, data: bytes) -> Done:
        """Send a job, pickled as `data`, for the program with this digest; return the worker's answer.

        A cancelled job is cancelled at the worker too. Raises WorkerLost where the worker dies, LmprogError where it fails
        otherwise.
        """
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._closed:
                raise WorkerLost
            number = next(self._numbers)
            self._expected[number] = future
            self._jobs.append((number, digest, data))
        self.post()
        try:
            return await future
        except asyncio.CancelledError:
            with self._lock:
                if self._expected.pop(number, None) is not None:
                    self._cancelled.append(number)
            self.post()
            raise

    def post(self) -> None:
        """Put the line into the queue of the thread that carries messages, unless it waits there already."""
        with self._lock:
            posted, self._posted = self._posted, True
        if not posted:
            self._post.lines.put(self)

    def outbox(self) -> tuple[list[tuple[int, str, bytes]], list[int]]:
        """Return the jobs and the numbers of cancelled jobs that wait to be sent, and empty both lists. A job that is
        cancelled before it was sent is in neither.
        """
        with self._lock:
            self._posted = False
            jobs, self._jobs = self._jobs, []
            cancelled, self._cancelled = self._cancelled, []
        # A job that is cancelled before it was sent is not sent.
        unsent = {number for number, _, _ in jobs}.intersection(cancelled)
        return [job for job in jobs if job[0] not in unsent], [number for number in cancelled if number not in unsent]

    def deliver(self, ended: list[tuple[int, Done]]) -> None:
        """Give each job, by its number, its answer, in its own event loop; answers of jobs that were cancelled are dropped."""
        with self._lock:
            found = [(self._expected.pop(number, None), done) for number, done in ended]
        _resolve_all([(future, done) for future, done in found if future is not None])

    def close(self, error: Exception) -> None:
        """Take no further jobs (`done` then raises WorkerLost), and raise `error` in each that waits for an answer, in
        its own event loop."""
        with self._lock:
            self._closed = True
            waiting, self._expected = list(self._expected.values()), {}
        _resolve_all([(future, error) for future in waiting])

    @property
    def closed(self) -> bool:
        """True if the worker has died or was let go."""
        return self._closed


class Post:
    """The thread of the driver that carries messages to all workers and back, and lends them their parts of limits; it
    starts when this is made, and ends with `close`.
    """

    def __init__(self) -> None:
        self.lines = SimpleQueue[Line | None]()
        self._ledger = Ledger()
        self._open: dict[int, Line] = {}
        self._thread = threading.Thread(target=self._carry, name="lmprog-post", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread once it has carried what was posted before, and wait for that."""
        self.lines.put(None)
        self._thread.join()

    def _carry(self) -> None:
        while (line := self.lines.get()) is not None:
            try:
                self._look(line)
            except Exception as error:  # a job waits for each answer, and no fault of one line may stop the others
                log.debug("the line to worker %s has ended", line.index, exc_info=error)
                try:
                    self._lose(line, error)
                except Exception as another:  # no other worker can be started: the cluster is gone
                    line.close(LmprogError(f"a worker was lost, and no other can be started: {another}"))

    def _look(self, line: Line) -> None:
        jobs, cancelled = line.outbox()
        if line.closed:
            self._lose(line, WorkerLost())
            return
        if jobs or cancelled:
            line.actor.give.remote(pickle.dumps((jobs, cancelled)))
        if line.turned:
            line.turned = line.nudged = False
            self._turn(line)
        elif line.nudged:
            line.nudged = False
            line.actor.give.remote(pickle.dumps(([], [])))

    def _turn(self, line: Line) -> None:
        """Deliver what a worker has reported at the end of its turn (nothing before the first), and give it another, with
        its parts of the limits. Raises Ray's error where the worker has died.
        """
        import ray

        parts: dict[str, Part] = {}
        if line.turn is None:
            self._open[line.index] = line
        else:
            ended, needs = pickle.loads(ray.get(line.turn))
            line.deliver(ended)
            parts, soon = self._ledger.turn(line.index, needs, time.monotonic())
            self._nudge(soon)
        line.turn = line.actor.turn.remote(pickle.dumps((time.monotonic(), parts)))

        def came(_: Any) -> None:
            line.turned = True
            line.post()

        line.turn.future().add_done_callback(came)

    def _nudge(self, soon: set[int]) -> None:
        for index in soon:
            if (other := self._open.get(index)) is not None and not other.nudged:
                other.nudged = True
                other.post()

    def _lose(self, line: Line, error: Exception) -> None:
        from ray import exceptions

        if self._open.get(line.index) is line:
            del self._open[line.index]
            self._nudge(self._ledger.gone(line.index, time.monotonic()))
        # The death of a worker is Ray's error; one that it raised itself would come again from another worker.
        dead = isinstance(error, WorkerLost | exceptions.RayError) and not isinstance(error, exceptions.RayTaskError)
        line.close(WorkerLost() if dead else LmprogError(f"a worker has failed: {error}"))
        line.lost()


def _resolve_all(found: list[tuple[asyncio.Future[Done], Done | Exception]]) -> None:
    by_loop = defaultdict(list)
    for future, answer in found:
        by_loop[future.get_loop()].append((future, answer))
    for loop, some in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed, and nobody waits in it
            loop.call_soon_threadsafe(_resolve, some)


def _resolve(some: list[tuple[asyncio.Future[Done], Done | Exception]]) -> None:
    for future, answer in some:
        if not future.done():
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
