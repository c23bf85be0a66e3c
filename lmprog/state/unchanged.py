"""A watch on the source files of a run, so that no results are stored that were made from two versions of a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lmprog.compiler.yaml.files import state_of
from lmprog.errors import UsageError


class Unchanged:
    """A watch on files: the time, size and inode of each when this is made, by which a change is seen.

    A file that is saved again counts as changed, even with the same contents, and so does one that appears or is gone.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._states = {path: state_of(path) for path in paths}

    def require(self) -> None:
        """Raise UsageError where a file has changed since the watch began; called before results are stored."""
        for path, before in self._states.items():
            if state_of(path) != before:
                raise UsageError(
                    f"{path} has changed while this command was at work, so nothing more is kept; undo that and run the same "
                    "command again to go on, or begin anew with another name"
                )
