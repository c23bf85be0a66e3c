"""A program in the form in which it reaches other processes: its plan, whose LMs and tools are made there.

No key is in it: a plan holds the expressions that read keys from the environment, which are evaluated where they are used, and
a check refuses a key in their place (LMP405).
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmprog.compiler.lm_plan import Limits
from lmprog.compiler.plan import LM as Declared
from lmprog.compiler.plan import Plan
from lmprog.compiler.same_lm import same_lm
from lmprog.errors import UsageError
from lmprog.lms.lm import LM
from lmprog.lms.making import is_declared, make_lm
from lmprog.runtime.program import Program, program_of
from lmprog.runtime.runner import Runnable
from lmprog.runtime.writes import writes
from lmprog.spending.budget import Spent
from lmprog.spending.lease import most_of_runs


@dataclass(frozen=True)
class Shipped:
    """A program in the form that is sent to workers: bytes (`data`), and their digest, by which a worker builds it
    once.

    `concurrency` is the smallest `concurrency` of its LMs (None: no limit), which is the most workers that it is sent
    to; `most`, of the names of a budget's limits and the run's inputs, returns the most that one run can spend.
    """

    digest: str
    data: bytes = field(repr=False)
    concurrency: int | None
    """The least `concurrency` of its LMs: it goes to no more workers than that, each of which needs at least one call."""
    most: Callable[[Collection[str], Mapping[str, Any]], Spent] = field(repr=False)


def shipped(program: Runnable, folder: Path) -> Shipped:
    """Return a program in the form for workers; paths in `folder` are written relative to it.

    Raises UsageError for a program that only this process can run.
    """
    plan, resources = program.plan, program.resources
    if not resources.dry_run:
        _refuse(plan, program.lms)
    file = io.BytesIO()
    pickler = _Pickler(file, folder)
    pickler.dump((plan, resources.dry_run, resources.imports))
    data = file.getvalue()
    return Shipped(hashlib.sha256(data).hexdigest(), data, pickler.least, most_of_runs(plan))


def sendable(value: Any) -> bytes:
    """Return a job, or another value, as bytes for workers: pickled, or by cloudpickle where a function within it has
    no name of its own. Raises what cloudpickle raises where neither can."""
    try:
        return pickle.dumps(value)
    except (AttributeError, TypeError, pickle.PicklingError):
        from ray import cloudpickle

        packed: bytes = cloudpickle.dumps(value)
        return packed


def _refuse(plan: Plan, lms: Mapping[str, LM]) -> None:
    for declared in _lms_of(plan):
        if declared.runs_here:
            raise UsageError(
                f"the LM {declared.id!r} ({declared.model}) runs in this process, and workers elsewhere ask models behind an "
                "API alone; serve it with vLLM and name it hosted_vllm/..., or leave --on out"
            )
    for id, lm in lms.items():
        if not is_declared(lm):
            raise UsageError(
                f"the LM {id!r} is an object of this process ({type(lm).__name__}), which no worker elsewhere has; let the "
                "program declare it, or leave --on out"
            )
    wrote = writes(plan)
    if wrote:
        raise UsageError(
            f"the tool {next(iter(wrote))!r} writes, and a worker that dies may have called it: programs with tools that "
            "write run here alone; leave --on out"
        )


def _lms_of(plan: Plan) -> Iterator[Declared]:
    """Yield the LMs of a plan and of the programs that it runs, with those that answer in their place; those of judges are
    looked at when a judge runs.
    """
    from lmprog.compiler.bounds import bounds

    yield from (each for lm in plan.lms.values() for each in lm.answering)
    yield from bounds(plan).asked


class _Pickler(pickle.Pickler):
    """A pickler that writes paths of the program's folder relative to it, and notes the least `concurrency` of its LMs in
    `least` (None: no LM has one).
    """

    def __init__(self, file: io.BytesIO, folder: Path) -> None:
        super().__init__(file)
        self._folder = folder
        self.least: int | None = None

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Limits) and value.concurrency is not None:
            self.least = min(value.concurrency, self.least or value.concurrency)
        if isinstance(value, Path) and value.is_relative_to(self._folder):
            return str(self._folder), str(value.relative_to(self._folder))
        return None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        folder, below = map(Path, pid)
        sent = Path.cwd() / below
        # On a machine without the driver's files the folder was sent as the working directory. A path that is in neither is
        # one that a run makes, such as the folder of a cache: it belongs beside the program where that is at hand.
        return folder / below if (folder / below).exists() or (folder.is_dir() and not sent.exists()) else sent


class Built:
    """The programs that a worker has built, by digest, at most `most`, and their LMs; equal LMs are one object, so that all
    programs share its connections.

    `limit` is called with the declaration of each LM, and the LM itself, when it is first used.
    """

    def __init__(self, limit: Callable[[Declared, LM], None] = lambda declared, lm: None, most: int = 64) -> None:
        self._limit, self._most = limit, most
        self._programs: dict[str, Program] = {}
        self._lms: list[tuple[Declared, LM]] = []

    def get(self, digest: str) -> Program | None:
        """Return the program of a digest; None where it was not built yet, or was dropped for others since (the `most` used
        last are kept).
        """
        found = self._programs.pop(digest, None)
        if found is not None:
            self._programs[digest] = found  # the last one used is the last one given up
        return found

    def build(self, digest: str, data: bytes) -> Program:
        """Build a program from the bytes of `shipped`, keep it under its digest, and return it. Raises UsageError where
        this machine cannot build it, such as for a missing variable of the environment."""
        plan, dry_run, imports = _Unpickler(io.BytesIO(data)).load()
        made = program_of(plan, _unchanged, lms={id: self._lm(lm) for id, lm in plan.lms.items()}, imports=imports)
        # Programs that it runs, and judges, may have LMs of their own.
        made = replace(made, resources=replace(made.resources, make=self._make))
        if len(self._programs) >= self._most:
            del self._programs[next(iter(self._programs))]
        self._programs[digest] = made.faked() if dry_run else made
        return self._programs[digest]

    def _lm(self, declared: Declared) -> LM:
        for known, lm in self._lms:
            if known.id == declared.id and same_lm(known, declared):
                return lm
        self._lms.append((declared, self._make(declared)))
        return self._lms[-1][1]

    def _make(self, declared: Declared) -> LM:
        return make_lm(declared, lambda lm: self._limit(declared, lm))


def _unchanged(change: Mapping[str, Any]) -> Plan:
    raise AssertionError("a worker runs plans as they are; candidates are laid over by the driver")
