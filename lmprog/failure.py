"""Failures of a run, with their causes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.blame import Kind
from lmprog.errors import Handled

CANCELLED = "cancelled before it was answered"
"""The error of a call that a timeout, or the failure of a step beside it, cut short."""


@dataclass(frozen=True)
class Failure:
    """The reason why a run has no outputs: the kind of failure (as listed in `lmprog.blame`), the message, and the path of
    the step.
    """

    kind: Kind
    message: str
    path: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Recovered:
    """A failure that ended no run, because the `on_error` of a step stood in for it: the path of that step, with the steps
    of outer programs and the turns of loops (`step`), and the failure."""

    step: str
    failure: Failure

    def as_json(self) -> dict[str, str]:
        """Return the entry as a dictionary: `step`, `kind` and `error`, which begins with the path of the failure."""
        return {"step": self.step, "kind": self.failure.kind, "error": str(self.failure)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Recovered:
        """Return the entry that `as_json` wrote, with equal values. Raises KeyError where it lacks a key."""
        path, _, message = entry["error"].partition(": ")
        return cls(entry["step"], Failure(entry["kind"], message, path))


class StepFailed(Handled):
    """The exception for a failed step, with its kind, message and path in `failure`; it ends the run unless the step, or one
    around it, retries or has `on_error`."""

    def __init__(self, kind: Kind, message: str, path: str) -> None:
        super().__init__(f"{path}: {message}")
        self.place = path
        self.failure = Failure(kind, message, path)
