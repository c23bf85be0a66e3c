"""Pages of an optimization, of an evaluation and of a program at work, as single HTML documents."""

from __future__ import annotations

from pathlib import Path

from lmprog.reports.page.document import document
from lmprog.reports.page.run_report import read


def page(run_dir: Path) -> str:
    """Return the page of the run in `run_dir`, also of a run in progress. Raises UsageError where there is no run."""
    return document("run.html", "page.js", run=read(run_dir))
