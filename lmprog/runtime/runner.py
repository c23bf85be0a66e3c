"""The place where the runs of a program are made: here, in this process, or where another runner takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lmprog.compiler.plan import Plan
from lmprog.lms.lm import LM
from lmprog.runtime.execution import Execution
from lmprog.runtime.options import AS_IT_IS, RunOptions
from lmprog.runtime.resources import Resources
from lmprog.runtime.result import Result
from lmprog.runtime.run import exported


@dataclass(frozen=True, slots=True)
class Job:
    """A run that is to be made: its inputs, the number of its row or the id of its request (`example`), and its
    options, with seed and rollout.

    `parent` is the path of the step or metric that runs the program as a sub-program or judge (None: neither). All
    draws of the run follow from these fields, so that its result does not depend on where or when it is made.
    """

    inputs: Mapping[str, Any]
    example: int | str = 0
    options: RunOptions = AS_IT_IS
    parent: str | None = None
    """The path of the step or metric that runs the program as a sub-program or judge."""


class Runnable(Protocol):
    """The parts of a program that a run needs: its plan, its LMs by id, and its resources (modules, tools, settings)."""

    @property
    def plan(self) -> Plan: ...
    @property
    def lms(self) -> Mapping[str, LM]: ...
    @property
    def resources(self) -> Resources: ...


class Runner(Protocol):
    """The interface of a place where runs are made, such as this process or a set of worker processes.

    Any number of runs may be asked for at a time, and they may end in any order.
    """

    @property
    def workers(self) -> int:
        """The number of processes that make runs; a program runs that many times its usual number of rows at once."""

    async def run(self, program: Runnable, job: Job) -> Result:
        """Run `program` on the job's inputs, and return the result, which holds any failure of the run. What concerns more
        than this run is raised, such as BudgetExceeded."""


class Here:
    """The runner that makes runs in this process and event loop."""

    workers = 1

    async def run(self, program: Runnable, job: Job) -> Result:
        """Make the run in the running event loop, call the program's exporters with its trace, and return the result.
        The job's inputs must fit the program, which is not checked here. Raises what concerns more than this run."""
        execution = Execution(program.plan, program.lms, program.resources, job.options, job.example, job.parent)
        with exported(execution.run, program.resources.exports(program.plan)) as trace:
            trace.inputs = job.inputs
            trace.outputs, trace.error = await execution.execute(job.inputs)
        run = execution.run
        return Result(trace.outputs, run.records(), trace.error, job.inputs, run.client_calls, run.recovered())


HERE = Here()
