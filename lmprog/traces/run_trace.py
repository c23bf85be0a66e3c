"""The trace of one run as exporters receive it, and the exporter interface."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.failure import Failure
from lmprog.lms.lm import ToolCall
from lmprog.traces.record import Record


@dataclass(slots=True)
class RunTrace:
    """The records of one run of `program` with its inputs, outputs and error (None: it did not fail): what exporters receive
    when the run has ended.

    `records` are those of its LM and tool calls, in the order of the plan. `example` is the row's number or the request's id,
    `rollout` the number of the row's sample; `began` and `ended` are in seconds since 1970.
    """

    program: str
    example: int | str
    rollout: int
    records: Sequence[Record] = ()
    error: Failure | None = None
    began: float = 0.0
    """Seconds since 1970, as `ended`."""
    ended: float = 0.0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] | None = None
    """The outputs of the program; None where the run failed, or ended with `client_calls`."""
    client_calls: Sequence[ToolCall] = ()
    """The calls of a server's client's tools with which the run has ended."""
    plan: Plan | None = None
    """The program that ran; None for a judge, whose run belongs to the run that it scores."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The tags of the run: `session`, `user` and others."""


Exporter = Callable[[RunTrace], None]


def warn(message: str) -> None:
    """Print a message on standard error, after `lmprog: `."""
    print(f"lmprog: {message}", file=sys.stderr, flush=True)
