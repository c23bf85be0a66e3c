"""Failures of a run, with their causes."""

from __future__ import annotations

from dataclasses import dataclass

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


class StepFailed(Handled):
    """The exception for a failed step; it ends the run unless the step, or one around it, retries or has `on_error`."""

    def __init__(self, kind: Kind, message: str, path: str) -> None:
        super().__init__(f"{path}: {message}")
        self.place = path
        self.failure = Failure(kind, message, path)
