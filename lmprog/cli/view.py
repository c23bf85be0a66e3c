"""`lmprog view`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--export", type=click.Path(path_type=Path, dir_okay=False), help="Write the page to this file, and end.")
@click.option("--port", default=0, show_default="any free one", type=click.IntRange(0, 65535))
def command(run_dir: Path, export: Path | None, port: int) -> None:
    """Show the optimization in RUN_DIR as a page: scores, curves, candidates as diffs, cost, steps, rows that changed.

    The page is read from what `lmprog optimize` has written, anew each time it is loaded, so that a run at work can be
    watched. It asks the network for nothing. Without --export it is served to this machine alone, until Ctrl-C.

    \b
    lmprog view runs/first
    lmprog view runs/first --export first.html
    """
    from lmprog.reports.page import page

    shown = page(run_dir)
    if export is not None:
        from lmprog.compiler.yaml.whole_file import write_whole

        write_whole(export, shown)
        click.echo(f"written: {export}", err=True)
        return

    from lmprog.reports.page.server import page_handler, serve

    sys.exit(
        serve(
            page_handler(lambda: page(run_dir)),
            port,
            lambda at: click.echo(f"{run_dir} at {at}; Ctrl-C ends", err=True),
        )
    )
