"""`lmprog rows`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmprog.cli.options import as_value, pairs

if TYPE_CHECKING:
    from lmprog.traces.use_rows import UseRows


@click.command()
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...", type=click.Path(path_type=Path))
@click.option(
    "--where",
    metavar="EXPR",
    help="Only the runs for which this is true: an expression over inputs, outputs, row (with score, comment), metrics, trace.",
)
@click.option("--with-feedback", is_flag=True, help="Only the runs that have feedback.")
@click.option("--unlabelled", is_flag=True, help="Keep rows whose answer was called wrong and not corrected.")
@click.option(
    "--as",
    "names",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Write an output, or a part of the feedback, in another column.",
)
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Where the rows go (jsonl)."
)
def command(
    traces: tuple[Path, ...],
    where: str | None,
    with_feedback: bool,
    unlabelled: bool,
    names: tuple[str, ...],
    out: Path,
) -> None:
    """Make rows of data from the runs in TRACE... and the feedback on them.

    A row has the run's inputs, its outputs or the correction, and score, comment, answer (what the program said, where the
    row has something else) and run. Runs that were scored below 0.5 and not corrected are left out; with --unlabelled they are
    rows whose outputs are null, for metrics that read no label. Of runs with equal inputs one makes a row: a corrected one,
    else one that was called right, else one with other feedback; of equals the last.

    \b
    lmprog rows trace.jsonl --with-feedback -o rows.jsonl
    lmprog rows monday.jsonl tuesday.jsonl --where "outputs.label == 'refund'" -o refunds.jsonl
    """
    from lmprog.compiler.yaml.whole_file import write_whole
    from lmprog.errors import UsageError
    from lmprog.state.json_lines import as_line
    from lmprog.traces.use_rows import read_uses, rows_of_use

    if out.suffix != ".jsonl":
        raise UsageError(f"{out}: rows are written as jsonl; name a file that ends with .jsonl")
    if any(out.resolve() == trace.resolve() for trace in traces):
        raise UsageError(f"{out} is a trace that the rows are made from; name another file")
    made = rows_of_use(
        read_uses(dict.fromkeys(traces)),
        where=where,
        only_feedback=with_feedback,
        unlabelled=unlabelled,
        names=pairs("--as", names),
    )
    if not made.rows:
        raise UsageError(
            f"no run makes a row ({_left_out(made, unlabelled) or 'none was chosen'}); {out} is left as it was"
        )
    write_whole(out, b"".join(map(as_line, made.rows)), private=True)
    for line in _said(made, out, unlabelled):
        click.echo(line, err=True)
    click.echo(_block(made, out))


def _said(made: UseRows, out: Path, unlabelled: bool) -> list[str]:
    """Return the lines on the rows that were written to `out`: how many of each kind, and which runs are left out."""
    counts = {
        "corrected": made.corrected,
        "without labels": made.wrong if unlabelled else 0,
        "called right": made.good,
        "that nobody looked at": made.unseen,
    }
    kinds = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    lines = [f"{len(made.rows)} rows in {out}" + (f": {kinds}" if kinds else "")]
    if left := _left_out(made, unlabelled):
        lines.append(f"left out: {left}")
    if made.unseen:
        lines.append(
            "labels that nobody looked at are what the program says already: --with-feedback leaves these rows out"
        )
    return lines


def _left_out(made: UseRows, unlabelled: bool) -> str:
    """Return the numbers of the runs that made no row, by the reason; empty where all did."""
    counts = {
        "called wrong and not corrected": 0 if unlabelled else made.wrong,
        "with the inputs of another run": made.repeated,
        "without outputs or a correction": made.failed,
        f"for which --where has no value ({made.unfit[0] if made.unfit else ''})": len(made.unfit),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _block(made: UseRows, out: Path) -> str:
    """Return the YAML of the `data:` block that names the rows in a program, with the private columns."""
    private = f", private: [{', '.join(map(_quoted, made.private))}]" if made.private else ""
    return f"data:\n  train: {{path: {_quoted(str(out))}, feedback: true{private}}}"


def _quoted(text: str) -> str:
    """Return a text as a value of YAML within braces: in quotes, unless it has only characters that mean nothing there."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./-]*", text) is not None and as_value(text) == text  # not `true`, `.5`
    return text if plain else json.dumps(text, ensure_ascii=False)
