"""HTML pages, each one file: of an optimization, of an evaluation, of traces, and parts of the page of `lmprog dev`."""

from __future__ import annotations

from pathlib import Path

from lmprog.reports.page.document import document
from lmprog.reports.page.run_report import read


def page(run_dir: Path) -> str:
    """Return the HTML page of the optimization in the folder `run_dir`, which may be in progress.

    Raises UsageError where there is no run that this version can read.
    """
    return document("run.html", "page.js", run=read(run_dir))
