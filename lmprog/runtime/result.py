"""The result of one run of a program, and the error of a run that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmprog.blame import is_outage
from lmprog.boundary.notebook import table
from lmprog.errors import LmprogError
from lmprog.failure import Failure, Recovered
from lmprog.runtime.client_tools import ClientCalls
from lmprog.traces.record import Invocation, Record, ToolInvocation
from lmprog.traces.run_record import RunRecord, RunRecorder


@dataclass(frozen=True, repr=False)
class Result:
    """The result of one run of a program on its `inputs`.

    `outputs` is None where the run failed, and `error`, a Failure, says why (None: it did not); the records hold the
    calls made until then. A run that ended with `client_calls` has neither.
    """

    outputs: Mapping[str, Any] | None
    records: Sequence[Record]
    """Calls of LMs and of tools, in the order of the plan."""
    error: Failure | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict, compare=False)
    client_calls: ClientCalls | None = None
    """The calls of a server's client's tools with which the run has ended, without outputs and without an error."""
    recovered: Sequence[Recovered] = ()
    """The failures of steps that their `on_error` answered, in the order of the plan: the run went on with what it gives."""

    def __repr__(self) -> str:
        said = f"error={str(self.error)!r}" if self.error is not None else f"outputs={self.outputs!r}"
        return f"Result({said}, calls={len(self.records)})"

    def _repr_html_(self) -> str:
        values = {"error": str(self.error)} if self.error is not None else self.outputs or {}
        return table(f"Result of {len(self.records)} calls", values.items())

    @property
    def trace(self) -> list[Invocation]:
        """The records of LM calls, without those of tool calls."""
        return [record for record in self.records if isinstance(record, Invocation)]

    @property
    def tool_calls(self) -> list[ToolInvocation]:
        """The records of tool calls, without those of LM calls."""
        return [record for record in self.records if isinstance(record, ToolInvocation)]


def recorded(recorder: RunRecorder, result: Result, example: int, **more: Any) -> RunRecord:
    """Return the record of the run that gave a result; `more` are further values of `RunRecorder.record`. `example` is
    the row's number."""
    return recorder.record(result.inputs, result.outputs, result.error, result.records, example=example, **more)


class RunError(LmprogError):
    """Raised by calling a program whose run failed; `result` has its records.

    The exit status of the command is 3 where an outage is the cause, else 1.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(str(result.error))
        self.result = result
        if result.error is not None and is_outage(result.error.kind):
            self.exit_status = 3
