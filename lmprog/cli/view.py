"""`lmprog view`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click


@click.command()
@click.argument("path", metavar="RUN_DIR|TRACE", type=click.Path(path_type=Path))
@click.argument("other", required=False, metavar="[OTHER]", type=click.Path(path_type=Path))
@click.option("--export", type=click.Path(path_type=Path, dir_okay=False), help="Write the page to this file, and end.")
@click.option("--show-private", is_flag=True, help="Of a trace, show private values too, which are left out otherwise.")
@click.option("--port", default=0, show_default="any free one", type=click.IntRange(0, 65535))
def command(path: Path, other: Path | None, export: Path | None, show_private: bool, port: int) -> None:
    """Show the optimization in RUN_DIR, or the runs of TRACE, as a page.

    Of an optimization: scores, curves, candidates as diffs, cost, steps, rows that changed. Of a trace, or a file of `eval
    --out`: a table of the runs with filters, where keys store feedback beside the trace; with OTHER, both beside each other,
    those that disagree first. The page is made anew each time it is loaded, and asks the network for nothing. Without --export
    it is served to this machine alone, until Ctrl-C.

    \b
    lmprog view runs/first
    lmprog view runs/first --export first.html
    lmprog view trace.jsonl                     # y right, n wrong, 1 to 9 a label, c comment, j and k rows
    lmprog view today.jsonl yesterday.jsonl     # two evaluations of the same rows
    """
    from lmprog.errors import UsageError

    if path.is_dir() or not path.exists():
        if other is not None or show_private:
            said = "OTHER" if other is not None else "--show-private"
            raise UsageError(f"{said} is for traces, and {path} is {'a folder' if path.is_dir() else 'not there'}")
        _show(path, *_of_run(path), export, port)
    else:
        _show(path, *_of_traces([path] if other is None else [path, other], show_private, export is None), export, port)


def _of_run(run_dir: Path) -> tuple[Callable[[], str], Callable[[], type], str]:
    """Return two functions for the optimization in a folder, one that makes its page (HTML) and one that makes the class of
    its request handlers, and the path in the server's address that leads to the page: the empty text.
    """
    from lmprog.reports.page import page
    from lmprog.reports.page.server import page_handler

    return (lambda: page(run_dir)), (lambda: page_handler(lambda: page(run_dir))), ""


def _of_traces(files: list[Path], show_private: bool, live: bool) -> tuple[Callable[[], str], Callable[[], type], str]:
    """Return two functions for a trace or two that are compared, one that makes their page (HTML; with `live` it can store
    feedback) and one that makes the class of its request handlers, and the path in the server's address that leads to the
    page: a secret token and `/`.
    """
    from lmprog.reports.page.server import new_token
    from lmprog.reports.page.trace_report import trace_page
    from lmprog.reports.page.trace_server import trace_handler

    token = new_token()
    return (
        lambda: trace_page(files, show_private=show_private, live=live),
        lambda: trace_handler(files, token, show_private),
        f"{token}/",
    )


def _show(
    path: Path, page: Callable[[], str], handler: Callable[[], type], behind: str, export: Path | None, port: int
) -> None:
    """Make the page once, so that what cannot be read raises now; then write it to the file `export`, or where that is None
    serve it at `port` until the server is stopped, and exit. `path` is shown with the address, which ends with `behind`.
    """
    shown = page()
    if export is not None:
        from lmprog.compiler.yaml.whole_file import write_whole

        write_whole(export, shown)
        click.echo(f"written: {export}", err=True)
        return

    from lmprog.reports.page.server import serve

    sys.exit(serve(handler(), port, lambda at: click.echo(f"{path} at {at}{behind}; Ctrl-C ends", err=True)))
