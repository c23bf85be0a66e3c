"""A run in progress: the state that its steps share, the place of each step, and its failure."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.failure import Failure, Recovered
from lmprog.lms.lm import LM
from lmprog.runtime.client_tools import ClientCalls, ClientTools
from lmprog.runtime.events import CallEnded
from lmprog.runtime.options import RunOptions
from lmprog.runtime.resources import Resources
from lmprog.traces.record import Invocation, Record, ToolInvocation
from lmprog.traces.run_trace import Exporter, RunTrace

Place = tuple[int, ...]
"""The position of a step in the order of the plan: indices of steps and loop turns, from the top."""


@dataclass(frozen=True, slots=True)
class Site:
    """The position of a step in a run: `place` (the indices of steps and loop turns, by which records are ordered), `path`
    (the same in words, as `loop[1].answer`), and the number of the attempt.

    `attempt` counts from 0 across nested retries: each combination of the tries of a step and of the steps around it has a
    number of its own, from which seeds are derived.
    """

    place: Place = ()
    path: str = ""
    attempt: int = 0

    def step(self, index: int, id: str) -> Site:
        """Return the position of the step with this number (from 0) and id in the list of steps at this position."""
        return Site((*self.place, index), f"{self.path}.{id}" if self.path else id, self.attempt)

    def turn(self, index: int) -> Site:
        """Return the position of turn or item number `index` (from 0) of a loop at this position."""
        return Site((*self.place, index), f"{self.path}[{index}]", self.attempt)


@dataclass(slots=True)
class Run:
    """The state that all steps of one run share: plan, LMs by id, resources, options, the row's number or the request's
    id (`example`), and the calls so far.

    A sub-program has a Run of its own, with the path of the calling step in `parent`.
    """

    plan: Plan
    lms: Mapping[str, LM]
    resources: Resources
    options: RunOptions
    example: int | str
    parent: str | None = None
    """The path of the step of the outer program, in a sub-program."""
    calls: list[tuple[Place, type[Record], dict[str, Any]]] = field(default_factory=list)
    """The fields of each call so far, but for the index of a module's call, which is known when the run has ended."""
    client_calls: ClientCalls | None = None
    """The calls of a client's tools with which the run has ended; None where it ended otherwise."""
    answered: list[tuple[Place, Recovered]] = field(default_factory=list)
    """The failures of steps that their `on_error` answered, each with the position of the step."""

    def client_of(self, site: Site) -> ClientTools | None:
        """Return the tools of a server's client for the agent at a position; None where it is offered none, as any
        agent but the one at `ClientTools.step`, and all in sub-programs."""
        client = self.options.client
        return client if client is not None and self.parent is None and client.step == site.path else None

    def record(self, place: Place, kind: type[Record], **fields: Any) -> None:
        """Add the record of an LM call (`kind` Invocation) or a tool call (ToolInvocation) to `calls`, and call
        `options.on_record`, whose exceptions come through. `place` is the position of the call, by which records are
        ordered; `fields` are those of the record, but for the program, the row, the rollout, the parent and the tags,
        which are added here."""
        fields.update(program=self.plan.name, example=self.example, rollout=self.options.rollout, parent=self.parent)
        if tags := self.options.tags:
            fields["tags"] = tags
        self.calls.append((place, kind, fields))
        if self.options.on_record is not None:
            call_ended = CallEnded(
                self.full_path(fields["path"]),
                fields.get("module"),
                fields.get("tool"),
                fields["attempt"],
                fields["seconds"],
                fields.get("error"),
            )
            self.options.on_record(call_ended)

    def full_path(self, path: str) -> str:
        """Return a step's path with the outer programs' steps before it, as `outer_step/inner_step`."""
        return f"{self.parent}/{path}" if self.parent else path

    def recovered(self) -> list[Recovered]:
        """Return the failures that an `on_error` answered, those in sub-programs included, in the order of the plan."""
        return [found for _, found in sorted(self.answered, key=lambda entry: entry[0])]

    def records(self) -> list[Record]:
        """Return the records of the run's calls, those of sub-programs included, in the order of the plan, which does
        not depend on timing.

        Each LM call has its index among the calls of its module; the tries of one call share it.
        """
        calls = sorted(self.calls, key=_in_order) if len(self.calls) > 1 else self.calls
        # A sub-program may have a module of the same name: it is another module, and counts by itself.
        last: dict[tuple[str, str], tuple[int, Place | None]] = {}
        records: list[Record] = []
        for place, kind, fields in calls:
            if kind is ToolInvocation:
                records.append(ToolInvocation(**fields))
                continue
            # A retry stands at the same place as the call that it repeats, and shares its index.
            module = (fields["program"], fields["module"])
            call, before = last.get(module, (-1, None))
            call += place != before
            last[module] = call, place
            records.append(Invocation(call=call, **fields))
        return records


def _in_order(call: tuple[Place, type[Record], dict[str, Any]]) -> tuple[Place, int]:
    return call[0], call[2].get("attempt", 0)


@contextlib.contextmanager
def exported(run: Run, exports: Sequence[Exporter]) -> Iterator[RunTrace]:
    """Yield the run's trace, whose inputs, outputs and error the block fills in; when the block ends, also by an
    exception or a cancellation (which is then the trace's error), add the records and call each exporter with it. An
    exception of an exporter comes through, and those after it are not called.

    Without exporters nothing is added.
    """
    plan = run.plan if run.parent is None else None
    trace = RunTrace(run.plan.name, run.example, run.options.rollout, plan=plan, tags=run.options.tags)
    if not exports:
        yield trace
        return
    trace.began = time.time()
    try:
        yield trace
    except BaseException as error:
        trace.error = Failure("cancelled", str(error) or type(error).__name__, "run")
        raise
    finally:
        trace.records, trace.ended = run.records(), time.time()
        trace.client_calls = run.client_calls.calls if run.client_calls is not None else ()
        for export in exports:
            export(trace)
