"""The page of `lmprog dev`: its HTML for a row, and the runs that are started on it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from lmprog.errors import UsageError
from lmprog.playground.runs import Runs
from lmprog.playground.session import Session, Snapshot
from lmprog.playground.view import Asked, View
from lmprog.reports.page.document import document, fragment

KEPT = 8
"""The most contents of the page, one for each row and what was typed for it, that are kept while the files stay the same."""


@dataclass
class Playground:
    """The page of `lmprog dev` for one program, whose files `session` follows. With `only_fakes` it has no button to
    run real LMs, with `show_private` it shows private values too."""

    session: Session
    only_fakes: bool = False
    show_private: bool = False
    runs: Runs = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _shown_of: Snapshot | None = field(default=None, init=False)
    _views: dict[tuple[object, ...], View] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.runs = Runs(self.session.tell)

    def page(self) -> str:
        """Return the whole page as HTML, with the first row."""
        return document("dev.html", "dev.js", view=self.view(Asked()))

    def parts(self, asked: Asked) -> str:
        """Return the changing parts of the page as HTML, for the row and the typed inputs that `asked` names."""
        return fragment("dev_parts.html", view=self.view(asked))

    def run(self, asked: Asked, *, real: bool) -> int:
        """Start a run on the row and the typed inputs that `asked` names, of the real LMs if `real`, else of fakes and
        with made-up values for private ones of the row (typed ones stay); return its number, from 1, without waiting
        for its end.

        Raises UsageError where the program has never been without errors, the inputs are wrong, or `real` is not
        allowed, and Busy while another run is in progress.
        """
        view = self.view(asked)
        if view.program is None:
            raise UsageError("the program has errors, so there is nothing to run")
        if real and self.only_fakes:
            raise UsageError("this page runs fakes only; start `lmprog dev` without --fake and --no-import for others")
        if (wrong := view.inputs[1]) is not None:
            raise UsageError(wrong)
        return self.runs.start(view.program, view.run_of(real), fake=not real, hide=real and view.guarded)

    def view(self, asked: Asked) -> View:
        """Return the page's content for a row and the inputs typed for it.

        At most KEPT (8) are kept, and all are made anew when files have changed, or rows that take long to read have
        come. It raises nothing: the content itself says what is wrong with the files or the inputs, and it has the last
        row where the number asked for is too high.
        """
        snapshot = self.session.snapshot
        key = (asked.split, asked.row, *sorted(asked.typed.items()))
        with self._lock:
            if self._shown_of is not snapshot:
                self._shown_of, self._views = snapshot, {}
            if key not in self._views:
                spec = _shown(self.session.spec)
                self._views[key] = View(
                    spec, snapshot, self.session.rows, self.runs, asked, self.only_fakes, self.show_private
                )
                if len(self._views) > KEPT:
                    del self._views[next(iter(self._views))]
            return self._views[key]


def _shown(path: Path) -> str:
    """Return a path as text: relative where the file is below the current folder, else absolute."""
    whole = path.resolve()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)
