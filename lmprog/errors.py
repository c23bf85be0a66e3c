"""The failures that lmprog raises, each with the exit status that the command line gives it."""

from __future__ import annotations

from lmprog.compiler.errors import Handled, LmprogError

__all__ = [
    "BudgetExceeded",
    "ConnectionFailed",
    "Handled",
    "InfrastructureError",
    "LmprogError",
    "ProviderError",
    "ReplayMiss",
    "UsageError",
]


class UsageError(LmprogError):
    """The command or call is wrong: an unknown option, an input that the program does not have."""

    exit_status = 2


class InfrastructureError(LmprogError):
    """A provider, the network, the disk or the machine failed; the same command may work later."""

    exit_status = 3


class ProviderError(InfrastructureError):
    """An LM gave no answer, after all its retries."""


class ConnectionFailed(InfrastructureError):
    """The connection of a tool or of a metric failed, after all its retries."""


class BudgetExceeded(LmprogError):
    """The next call could exceed the budget, so it was not made; `limit` is the name of the amount that is spent, such as
    `usd`. The exit status is 1."""

    limit: str = ""


class ReplayMiss(LmprogError):
    """A call that the recording does not hold, since the program, its data or its tools have changed after it was recorded.
    The exit status is 1."""
