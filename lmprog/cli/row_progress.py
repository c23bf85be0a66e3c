"""A progress bar over a known number of rows, shown on terminals only."""

from __future__ import annotations

import sys

from lmprog.boundary import terminal


class RowProgress:
    """A progress bar on standard error called `what`, of `total` rows of which `done` are finished; a context manager, which
    removes the bar at its end. Where standard error is no terminal nothing is shown.
    """

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        from rich.progress import Progress

        # Not redirected: what is printed beside the bar belongs on standard output.
        self._progress = Progress(
            console=terminal.console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(what, total=total, completed=done)

    def advance(self) -> None:
        """Advance the progress bar by one row."""
        self._progress.advance(self._task)

    def say(self, text: str) -> None:
        """Print a line on standard output without disturbing the bar; the text must be printable but for
        lmprog's own colours.
        """
        self._progress.stop()
        terminal.echo_coloured(text)
        self._progress.start()

    def __enter__(self) -> RowProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
