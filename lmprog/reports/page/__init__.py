"""HTML pages, each one file: of an optimization, of an evaluation, and of a program at work (`lmprog dev`)."""

from __future__ import annotations

from pathlib import Path

from lmprog.reports.page.document import document
from lmprog.reports.page.run_report import read


def page(run_dir: Path) -> str:
    """Return the HTML page of the optimization in `run_dir`, which may be in progress.

    Raises UsageError where there is no run.
    """
    return document("run.html", "page.js", run=read(run_dir))
