"""Displays for notebooks: small tables, all of whose texts are escaped, and a bar for work of known length."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from types import TracebackType
from typing import Any

from lmprog.boundary.terminal import printable

SHOWN = 500
"""Most characters of a text in a table, and most rows."""


def table(title: str, rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """Return an HTML table with a title and column headings `head` (none if empty); the first cell of each row is its
    heading.
    """
    lines = [f"<caption>{_text(title)}</caption>"]
    if head:
        lines.append(f"<tr>{''.join(f'<th>{_text(name)}</th>' for name in head)}</tr>")
    for first, *others in list(rows)[:SHOWN]:
        cells = "".join(f'<td style="text-align: left; white-space: pre-wrap">{_text(cell)}</td>' for cell in others)
        lines.append(f'<tr><th style="text-align: left">{_text(first)}</th>{cells}</tr>')
    return f"<table>{''.join(lines)}</table>"


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return escape(printable(text if len(text) <= SHOWN else f"{text[:SHOWN]}…"))


def shell() -> Any:
    """Return the module `IPython.display` in the kernel of a notebook; None elsewhere. IPython is not imported."""
    found = sys.modules.get("IPython")
    kernel = found.get_ipython() if found is not None and hasattr(found, "get_ipython") else None
    return sys.modules.get("IPython.display") if type(kernel).__name__ == "ZMQInteractiveShell" else None


class _Bar:
    def __init__(self, what: str, done: int, total: int) -> None:
        self.what, self.done, self.total = what, done, total

    def __repr__(self) -> str:
        return f"{self.what}: {self.done} of {self.total}"

    def _repr_html_(self) -> str:
        return f'{_text(self.what)} <progress value="{self.done}" max="{self.total}"></progress> {self.done} of {self.total}'


class NotebookBar:
    """Shows in a notebook how many of `total` are done; elsewhere it shows nothing. A context manager."""

    def __init__(self, what: str, total: int) -> None:
        self._bar, self._step = _Bar(what, 0, total), max(1, total // 100)
        self._display = shell() if total else None
        self._handle: Any = None

    def __enter__(self) -> NotebookBar:
        if self._display is not None:
            self._handle = self._display.display(self._bar, display_id=True)
        return self

    def advance(self) -> None:
        """Count one more; the bar is drawn anew once for each hundredth."""
        self._bar.done += 1
        if self._handle is not None and (self._bar.done % self._step == 0 or self._bar.done == self._bar.total):
            self._handle.update(self._bar)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.update(self._bar)
