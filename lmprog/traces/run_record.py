"""The record of a whole run, its last line in a trace: inputs, outputs, scores, and what a row of data is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.compiler.trust.private import private_names
from lmprog.compiler.types.plain_types import plain_type
from lmprog.failure import Failure
from lmprog.lms.lm import ToolCall
from lmprog.state.digests import digest
from lmprog.traces.record import Record

KIND = "run"
ID_LENGTH = 12
"""Characters of the digest that names a run without a name of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The record of one run of a program, successful or not: its inputs, its outputs (None: it failed, or ended with
    `client_calls`), its error (None: it did not fail), and the digest of the program.

    `example` is the row's number (or the id of a request), `rollout` the number of the row's sample, `private` the names of
    private values, `types` the types of the outputs. For a scored run `columns` are the row's other columns, `scores` the
    scores by metric and `said` the metrics' words. `started` is in seconds since 1970.
    """

    program: str
    digest: str
    """The digest of the program."""
    example: int | str
    rollout: int
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any] | None = None
    error: Failure | None = None
    client_calls: Sequence[ToolCall] = ()
    """The calls of a server's client's tools with which the run has ended, in place of outputs or an error."""
    types: Mapping[str, Any] = field(default_factory=dict)
    """The types of the outputs as plain values (`lmprog.compiler.types.plain_types`)."""
    private: Sequence[str] = ()
    """The private inputs, and the outputs that private values reach."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The columns of a scored data row that are no inputs."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """The scores of the run by metric, None where an outage left one out."""
    said: Mapping[str, str] = field(default_factory=dict)
    """The feedback of the metrics that gave some."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The tags of the run: `session`, `user` and others."""
    started: float | None = None
    """Time of the first call, in seconds since 1970; None without calls."""
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """The id of the run in its trace: that of a request to `lmprog serve`, else a digest of program, row and
        values, which equal runs of a row share."""
        if isinstance(self.example, str):
            return self.example
        named = [self.digest, self.example, self.rollout, self.inputs, self.outputs, str(self.error or "")]
        return hashlib.sha256(digest(named).encode()).hexdigest()[:ID_LENGTH]

    def as_json(self, *, shared: bool = False) -> dict[str, Any]:
        """Return the record as a dictionary by field name, without empty fields, and with `kind` (`run`), `id`, `failure` (the
        kind of an error) and an empty `path`, as a line of a trace has one.

        With `shared`, for a file that others read, a program with private values is written without these, without the other
        columns, the metrics' words and the client's calls, and without the text of the error.
        """
        hidden = frozenset(self.private) if shared else frozenset()
        found: dict[str, Any] = {
            "kind": KIND,
            "id": self.id,
            "program": self.program,
            "digest": self.digest[:ID_LENGTH],
            "path": "",
            "example": self.example,
            "rollout": self.rollout,
            "inputs": _without(self.inputs, hidden),
        }
        if self.outputs is not None:
            found["outputs"] = _without(self.outputs, hidden)
        if self.error is not None:
            found["error"] = "the run failed" if hidden else str(self.error)
            found["failure"] = self.error.kind
        more = {
            "client_calls": [] if hidden else [asdict(call) for call in self.client_calls],
            "types": self.types,
            "private": list(self.private),
            "columns": {} if hidden else self.columns,
            "scores": self.scores,
            "said": {} if hidden else self.said,
            "tags": self.tags,
        }
        found |= {name: value for name, value in more.items() if value}
        if self.started is not None:
            found |= {"started": self.started, "seconds": round(self.seconds, 6)}
        return found


class RunRecorder:
    """Makes the records of the whole runs of one program, for its traces; `private` has the names of its private inputs and
    outputs, `types` the types of its outputs as plain values."""

    def __init__(self, plan: Plan) -> None:
        self._name, self._digest = plan.name, plan.digest
        inputs, outputs = private_names(plan)
        # In the order of the program, and each name once.
        self.private = [name for name in {**plan.inputs, **plan.output_types} if name in inputs | outputs]
        self.types = {name: plain_type(kind) for name, kind in plan.output_types.items()}

    def record(
        self,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any] | None,
        error: Failure | None,
        calls: Sequence[Record],
        *,
        example: int | str,
        rollout: int = 0,
        tags: Mapping[str, str] | None = None,
        **more: Any,
    ) -> RunRecord:
        """Return the record of a run: its inputs, outputs (None: it has none) and error (None: it did not fail), with
        its time from the first of its `calls` to the end of the last (without calls `started` is None, and `seconds`
        0).

        `example` is the row's number (or the id of a request), `rollout` the number of the row's sample, and `tags` are
        the run's (None: those of its first call). `more` are further fields of RunRecord: the `columns`, `scores` and
        `said` of a scored run, the `client_calls` with which a run ended.
        """
        started = min((call.started for call in calls), default=None)
        ended = max((call.started + call.seconds for call in calls), default=0.0)
        return RunRecord(
            program=self._name,
            digest=self._digest,
            example=example,
            rollout=rollout,
            inputs=inputs,
            outputs=outputs,
            error=error,
            types=self.types,
            private=self.private,
            started=started,
            tags=tags if tags is not None else calls[0].tags if calls else {},
            seconds=ended - started if started is not None else 0.0,
            **more,
        )


def _without(values: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in hidden}
