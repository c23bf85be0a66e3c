"""Displays for notebooks: small tables, all of whose texts are escaped, and a bar for work of known length."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from types import TracebackType
from typing import Any

from lmprog.boundary.terminal import printable

SHOWN = 500
"""Maximum characters of a text in a table, and maximum rows."""


def table(title: str, rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """Return an HTML table with a title and column headings `head` (none if empty), of at most SHOWN (500) rows; the first
    cell of each row is its heading, and values that are no texts are shown by `repr`. All texts are escaped, and cut after
    SHOWN characters. Further rows are left out, and nothing says so.
    """
    lines = [f"<caption>{_text(title)}</caption>"]
    if head:
        lines.append(f"<tr>{''.join(f'<th>{_text(name)}</th>' for name in head)}</tr>")
    for first, *others in list(rows)[:SHOWN]:
        cells = "".join(f'<td style="text-align: left; white-space: pre-wrap">{_text(cell)}</td>' for cell in others)
        lines.append(f'<tr><th style="text-align: left">{_text(first)}</th>{cells}</tr>')
    return f"<table>{''.join(lines)}</table>"


def _text(value: Any) -> str:
    """Return a value as escaped HTML text of at most SHOWN characters."""
    text = value if isinstance(value, str) else repr(value)
    return escape(printable(text if len(text) <= SHOWN else f"{text[:SHOWN]}…"))


def shell() -> Any:
    """Return the module `IPython.display` where this process is the kernel of a notebook; None elsewhere, as in IPython's
    terminal. IPython is not imported."""
    found = sys.modules.get("IPython")
    kernel = found.get_ipython() if found is not None and hasattr(found, "get_ipython") else None
    return sys.modules.get("IPython.display") if type(kernel).__name__ == "ZMQInteractiveShell" else None


class Bar:
    """A title (`what`) with how many of `total` are done (no bar where `total` is 0), and a further text (`said`), which a
    notebook shows as HTML and `repr` as text.
    """

    def __init__(self, what: str, done: int, total: int, said: str = "") -> None:
        self.what, self.done, self.total, self.said = what, done, total, said

    def __repr__(self) -> str:
        counted = f": {self.done} of {self.total}" if self.total else ""
        return f"{self.what}{counted}{f'; {self.said}' if self.said else ''}"

    def _repr_html_(self) -> str:
        drawn = f'<progress value="{self.done}" max="{self.total}"></progress> {self.done} of {self.total}'
        return " ".join(part for part in (_text(self.what), drawn if self.total else "", _text(self.said)) if part)


class Place:
    """A place in the output of a notebook's cell, which begins with the first bar and is drawn anew with each further one;
    outside of a notebook it shows nothing."""

    def __init__(self) -> None:
        self._display, self._handle = shell(), None

    def show(self, bar: Bar) -> None:
        """Show a bar in place of the one before."""
        if self._handle is not None:
            self._handle.update(bar)
        elif self._display is not None:
            self._handle = self._display.display(bar, display_id=True)


class NotebookBar:
    """A bar in a notebook for `total` pieces of work named `what`, drawn while its block runs and left there at its end;
    elsewhere, and where `total` is 0, it shows nothing. A context manager."""

    def __init__(self, what: str, total: int) -> None:
        self._bar, self._step = Bar(what, 0, total), max(1, total // 100)
        self._place = Place()

    def __enter__(self) -> NotebookBar:
        self._show()
        return self

    def advance(self) -> None:
        """Count one more as done; the bar is drawn anew at each hundredth of the total, and at the end."""
        self._bar.done += 1
        if self._bar.done % self._step == 0 or self._bar.done == self._bar.total:
            self._show()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()

    def _show(self) -> None:
        if self._bar.total:
            self._place.show(self._bar)
