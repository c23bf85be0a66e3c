"""The root of lmprog's exceptions."""

from __future__ import annotations


class LmprogError(Exception):
    """The root of lmprog's exceptions: its text tells the user the place, the cause and the fix.

    A command that ends with one shows its text and has its exit status.
    """

    exit_status: int = 1
    place: str | None = None
    """The file with line and column, or the step, that the text begins with; None for a text that begins otherwise."""


class Handled(LmprogError):
    """The root of the exceptions that lmprog always handles itself, such as an unreadable reply or a failed try.

    They count for one call, one row or one file, and end no command.
    """
