"""`lmprog dev`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import click

from lmprog.cli.environment import with_environment
from lmprog.cli.options import NO_IMPORT, SPEC, overriding


@click.command()
@SPEC
@overriding
@NO_IMPORT
@click.option("--fake", is_flag=True, help="Offer only runs with fakes: no model is asked, and no tool that writes.")
@click.option("--show-private", is_flag=True, help="Show private values too, which are left out of the page otherwise.")
@click.option("--port", default=0, show_default="any free one", type=click.IntRange(0, 65535))
@with_environment
def command(
    spec: Path,
    lms: dict[str, str],
    overrides: dict[str, Any],
    no_import: bool,
    fake: bool,
    show_private: bool,
    port: int,
) -> None:
    """Show SPEC on a local page as its files change: findings, graph, requests for a row, and runs of it.

    The page follows every file that the program reads. While a file is broken its findings stand above the last state that
    could run. A run is made when a button is pressed: with fakes, or with the real LMs, which may cost. Served to this
    machine alone, until Ctrl-C.

    \b
    lmprog dev program.yaml
    lmprog dev program.yaml --fake                     # the page can ask no model
    """
    from lmprog.playground.page import Playground
    from lmprog.playground.server import playground_handler
    from lmprog.playground.session import Session
    from lmprog.reports.page.server import new_token, serve

    if not spec.is_file():
        raise click.UsageError(f"{spec} is no file; name the YAML file of a program")
    session = Session(spec, lms, overrides, imports=not no_import)
    session.refresh()
    playground, token, stopped = Playground(session, fake or no_import, show_private), new_token(), threading.Event()
    threading.Thread(target=session.follow, args=(stopped,), daemon=True, name="lmprog-dev-watch").start()

    def say(at: str) -> None:
        click.echo(f"{spec} at {at}{token}/; Ctrl-C ends", err=True)

    try:
        sys.exit(serve(playground_handler(playground, token), port, say))
    finally:
        stopped.set()
        playground.runs.stop()
