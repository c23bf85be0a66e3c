"""The root of lmprog's exceptions."""

from __future__ import annotations


class LmprogError(Exception):
    """The root of lmprog's exceptions, whose text names the place, the cause and the fix.

    A command that ends with one prints its text and exits with `exit_status`, 1 where a subclass sets no other.
    """

    exit_status: int = 1
    place: str | None = None
    """The file with line and column, or the step, that the text begins with; None for a text that begins otherwise."""


class Handled(LmprogError):
    """The root of the exceptions that lmprog always handles itself, such as an unreadable reply or a failed try.

    Each concerns one call, one row or one file, and ends no command.
    """
