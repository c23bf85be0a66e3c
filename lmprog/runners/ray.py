"""The runner `ray`: runs are made by workers of a Ray cluster, which `ray_cluster.py` opens.

Each worker is an actor that makes many runs at a time. A job goes to the worker with the fewest, and no worker has more than
AT_ONCE, so that what waits stays with the driver. Where a worker dies, its jobs go to others, with the same seeds.
Messages are carried by `ray_line.py`, and limits lent by `ledger.py`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmprog.aio.loops import end_wait
from lmprog.errors import InfrastructureError, UsageError
from lmprog.failure import Failure
from lmprog.lms.response_cache import RunResponseCache
from lmprog.runners.ray_line import Line, Post, WorkerLost
from lmprog.runners.ray_worker import AnswerStore, Done, Lease, Worker
from lmprog.runners.shipping import Shipped, sendable, shipped
from lmprog.runtime.result import Result
from lmprog.runtime.runner import HERE, Job, Runnable
from lmprog.spending.budget import Budget, Spent
from lmprog.traces.run_trace import RunTrace

AT_ONCE = 256
"""Runs that one worker makes at a time, at most."""
MESSAGES = 64
"""Messages that one worker reads at a time, at most."""
LIVES = 4
"""Times that a job is begun at most: it goes to another worker three times, and is then an outage."""
START_TIMEOUT = 120.0
"""Seconds in which all workers must have started."""


@dataclass(eq=False)
class _Employed:
    """A worker of RayRunner with its number and line, the number of jobs that it has, and the programs and stores that it
    was given.
    """

    index: int
    actor: Any
    line: Line = field(init=False)
    jobs: int = 0
    ready: bool = False
    built: dict[str, Any] = field(default_factory=dict)
    """Programs, by digest, that the worker has built (None), or is building (a Ray reference that resolves when it is
    done).
    """
    stores: dict[str, Any] = field(default_factory=dict)
    """Actors for replies, by name, that the worker was given (None), or is being given (a Ray reference that resolves
    when it is done).
    """


class RayRunner:
    """The runner that makes runs on the workers of a Ray cluster; made by `on_ray` (`ray_cluster.py`)."""

    def __init__(self, workers: int, folder: Path) -> None:
        self.workers = workers
        self._folder = folder.resolve()
        self._lock = threading.Lock()
        self._employed: list[_Employed] = []
        self._waiting: dict[int | None, deque[asyncio.Future[None]]] = {}
        """The jobs that wait for a worker, by the number of workers that they may go to."""
        self._shipped: dict[int, tuple[Any, Any, Shipped, Any]] = {}
        self._stores: dict[str, Any] = {}
        self._post = Post()
        self.lost = 0
        """Workers that died so far."""

    async def run(self, program: Runnable, job: Job) -> Result:
        """Make a run on a worker, and return its result; its trace is exported by this process. Where LIVES (4) workers
        have died over the run, its result is a failure of the kind `connection`.

        Replays, and runs with callbacks, are made in this process. Raises UsageError for a program that only this process
        or no worker can run, BudgetExceeded for a spent budget, and InfrastructureError where no worker is left.
        """
        resources, options = program.resources, job.options
        followed = options.on_text or options.on_record or options.on_request
        if followed or resources.recording is not None:
            return await HERE.run(program, job)
        packed, reference = self._packed(program)
        plain = replace(options, before_write=None) if options.before_write is not None else options
        sent = Job(job.inputs, job.example, plain, job.parent)
        done = await self._within(resources.budget, packed, reference, sent)
        if done.error is not None:
            raise done.error
        assert done.result is not None
        result = done.result
        exports = resources.exports(program.plan)
        if exports:
            trace = RunTrace(program.plan.name, job.example, options.rollout, result.records, result.error)
            trace.inputs, trace.outputs, trace.began, trace.ended = job.inputs, result.outputs, done.began, done.ended
            for export in exports:
                export(trace)
        return result

    async def _within(self, budget: Budget | None, packed: Shipped, reference: Any, job: Job) -> Done:
        """Send a job with a lease of the budget, which is settled by what the run has spent; without one where `budget` is
        None. Return the worker's answer; raise BudgetExceeded where the lease did not suffice.
        """
        if budget is None:
            return await self._sent(packed, reference, sendable((job, None)), None)
        store = self._store(budget.answers.folder) if isinstance(budget.answers, RunResponseCache) else None

        async def work(limits: dict[str, float]) -> tuple[Done, Spent, Spent]:
            data = sendable((job, Lease(limits, budget.largest, store)))
            done = await self._sent(packed, reference, data, store)
            return done, done.spent or Spent(), done.largest or Spent()

        done = await budget.lend(packed.most(budget.limits, job.inputs), work)
        if done.spent_limit:
            raise budget.refusal(done.spent_limit)
        return done

    async def _sent(self, packed: Shipped, reference: Any, data: bytes, store: str | None) -> Done:
        """Send a job to a worker, and to another one where that dies; return its answer, or after LIVES deaths a result
        that failed by its connection. `store` names the actor that keeps replies (None: none).
        """
        lives = LIVES
        while lives:
            worker = await self._free(packed.concurrency)
            try:
                await self._prepare(worker, packed, reference, store)
                done = await worker.line.done(packed.digest, data)
                if not done.absent:
                    return done
                worker.built.pop(packed.digest, None)
            except _lost():
                lives -= 1
                self._replace(worker)
            finally:
                self._leave(worker)
        words = f"{LIVES} workers died while they made this run"
        return Done(Result(None, (), Failure("connection", words, "run")))

    async def _prepare(self, worker: _Employed, packed: Shipped, reference: Any, store: str | None) -> None:
        """Have a worker build a program before its first run there, and pass it the actor `store` that keeps replies (None:
        none). Raises UsageError where the worker cannot build the program.
        """
        # Apart from the jobs: a reference in each of them would cost as much as the rest of it.
        if packed.digest not in worker.built:
            worker.built[packed.digest] = worker.actor.build.remote(packed.digest, [reference])
        if (building := worker.built[packed.digest]) is not None:
            why = await building
            if why is not None:
                raise UsageError(f"a worker cannot build the program: {why}; give each node what this one has")
            worker.built[packed.digest] = None
        if store is not None:
            if store not in worker.stores:
                worker.stores[store] = worker.actor.keep.remote(store, [self._stores[store]])
            if (known := worker.stores[store]) is not None:
                await known
                worker.stores[store] = None

    def _packed(self, program: Runnable) -> tuple[Shipped, Any]:
        """Return the program in the form for workers, and the Ray reference to its bytes, made once for each plan. Raises
        UsageError for a program that only this process can run.
        """
        import ray

        # Keyed by identity, and the key kept beside its value, so that an id can never come to mean something else.
        plan, dry_run = program.plan, program.resources.dry_run
        kept = self._shipped.get(id(plan))
        if kept is None or kept[1] != dry_run:
            packed = shipped(program, self._folder)
            if len(self._shipped) >= 64:
                del self._shipped[next(iter(self._shipped))]
            kept = self._shipped[id(plan)] = (plan, dry_run, packed, ray.put(packed.data))
        return kept[2], kept[3]

    def _store(self, folder: Path) -> str:
        """Return the name of the actor that keeps replies in `folder`, on this machine; it is started where there is none."""
        name = str(folder.resolve())
        if name not in self._stores:
            self._stores[name] = _beside(AnswerStore, name)
        return name

    async def _free(self, most: int | None) -> _Employed:
        """Return the worker with the fewest jobs, among those whose number is below `most` (None: all), once one has fewer
        than AT_ONCE; the job is counted there. Raises InfrastructureError where no worker is left, or none is ready within
        START_TIMEOUT.
        """
        while True:
            with self._lock:
                if not self._employed:
                    raise InfrastructureError("no worker of the Ray cluster is left")
                here = [each for each in self._employed if each.ready and (most is None or each.index < most)]
                found = min(here, key=lambda each: each.jobs, default=None)
                if found is not None and found.jobs < AT_ONCE:
                    found.jobs += 1
                    return found
                freed = asyncio.get_running_loop().create_future()
                self._waiting.setdefault(most, deque()).append(freed)
                patience = None if any(each.ready for each in self._employed) else START_TIMEOUT
            try:
                async with asyncio.timeout(patience):
                    await freed
            except TimeoutError:
                raise InfrastructureError(f"the Ray cluster has had no worker for {START_TIMEOUT:g} s") from None
            except asyncio.CancelledError:
                # It may have been woken for a place that another job can take.
                self._wake()
                raise

    def _leave(self, worker: _Employed) -> None:
        with self._lock:
            worker.jobs -= 1
        self._wake()

    def _wake(self, places: int = 1) -> None:
        """Wake, of the jobs that wait, as many of each kind (by the workers that they may go to) as there are `places`; all
        that wait would be too many for one place.
        """
        woken = []
        with self._lock:
            for waiting in self._waiting.values():
                left = places
                while waiting and left:
                    freed = waiting.popleft()
                    if not freed.done():
                        woken.append(freed)
                        left -= 1
        for freed in woken:
            freed.get_loop().call_soon_threadsafe(end_wait, freed)

    def hire(self, index: int) -> Any:
        """Start worker number `index`; return a Ray reference to its version of lmprog, which is there when the worker is
        ready.
        """
        import ray

        limits = {"num_cpus": 1, "max_concurrency": MESSAGES, "max_restarts": 0}
        actor = ray.remote(Worker).options(**limits).remote(str(Path.cwd()))
        worker = _Employed(index, actor)
        worker.line = Line(index, actor, self._post, lambda: self._replace(worker))
        with self._lock:
            self._employed.append(worker)
        ready = actor.ready.remote()

        def ended(future: Any) -> None:
            if future.exception() is None:
                worker.ready = True
                worker.line.post()
            else:
                self._dismiss(worker)
            self._wake(AT_ONCE)

        ready.future().add_done_callback(ended)
        return ready

    def _dismiss(self, worker: _Employed) -> bool:
        """Take a worker off the list; return False where it was not on it any more."""
        with self._lock:
            known = worker in self._employed
            if known:
                self._employed.remove(worker)
        return known

    def _replace(self, worker: _Employed) -> None:
        """Start another worker, of the same number, in the place of one that died, which is killed; nothing where that was
        done already.
        """
        import ray

        if self._dismiss(worker):
            # One that was only out of reach would go on beside the other, with its part of the limits.
            ray.kill(worker.actor)
            worker.line.close(WorkerLost())
            worker.line.post()
            self.lost += 1
            self.hire(worker.index)

    def close(self) -> None:
        """End the workers, the actors that keep replies, and the thread that carries messages."""
        import ray

        self._post.close()
        for actor in [*(worker.actor for worker in self._employed), *self._stores.values()]:
            ray.kill(actor)
        self._employed, self._stores = [], {}


def _beside(kind: type, *arguments: Any) -> Any:
    """Return an actor on the machine of this process."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_concurrency": 1000, "scheduling_strategy": here}
    return ray.remote(kind).options(**options).remote(*arguments)


def _lost() -> tuple[type[Exception], ...]:
    """Return the errors that report that a worker has died."""
    from ray import exceptions

    return (
        WorkerLost,
        exceptions.RayActorError,
        exceptions.NodeDiedError,
        exceptions.WorkerCrashedError,
        exceptions.OwnerDiedError,
        exceptions.ObjectLostError,
        exceptions.LocalRayletDiedError,
    )
