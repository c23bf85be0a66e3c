"""The root of lmprog's exceptions."""

from __future__ import annotations


class LmprogError(Exception):
    """Something that the user can act on: its text names the place, the cause and the fix.

    Every exception that lmprog defines is one, and a command that ends with it shows its text and has its exit status.
    """

    exit_status: int = 1
    place: str | None = None
    """The file with line and column, or the step, that the text begins with; None for a text that begins otherwise."""


class Handled(LmprogError):
    """A failure that lmprog itself handles in every case: a reply that cannot be read, a try that gave no reply.

    It counts for one call, one row or one file, and ends no command.
    """
