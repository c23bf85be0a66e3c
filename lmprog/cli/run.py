"""`lmprog run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.options import BUDGET, SPEC, as_value, budget_of, overriding, pairs
from lmprog.cli.row_progress import RowProgress

if TYPE_CHECKING:
    from lmprog.events import TextPiece

SAY = "say what to run on: --input NAME=VALUE for one run, or --inputs FILE for rows"


@click.command()
@SPEC
@overriding
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="An input of one run; the outputs are printed."
)
@click.option("--inputs", "rows", type=click.Path(path_type=Path), help="Rows to run on (jsonl, csv or parquet).")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where the outputs of --inputs go, a JSON line for each row."
)
@click.option("--trace", type=click.Path(path_type=Path), help="Append every LM call to this file, as JSON lines.")
@click.option(
    "--fake", is_flag=True, help="Answer with values of the declared types; ask no model, call no tool that writes."
)
@click.option("--seed", default=0, show_default=True, help="Seed of every draw.")
@click.option("--stream", is_flag=True, help="Show replies on standard error as they come, where the LM can stream.")
@click.option("--concurrency", type=click.IntRange(1), help="Rows at work at a time.")
@BUDGET
def command(
    spec: Path,
    lms: dict[str, str],
    overrides: dict[str, Any],
    inputs: tuple[str, ...],
    rows: Path | None,
    out: Path | None,
    trace: Path | None,
    fake: bool,
    seed: int,
    stream: bool,
    concurrency: int | None,
    budget: tuple[str, ...],
) -> None:
    """Run the program in SPEC on one input, or on the rows of a file.

    \b
    lmprog run program.yaml --input text="Where is my parcel?"
    lmprog run program.yaml --inputs rows.jsonl --out answers.jsonl     # goes on where it was cut
    """
    import contextlib

    from lmprog.blame import exit_status
    from lmprog.loops import run_async
    from lmprog.program import RunOptions, load
    from lmprog.trace import TraceWriter

    if inputs and rows is not None:
        raise click.UsageError(SAY)
    if rows is not None and out is None:
        raise click.UsageError("--inputs needs --out FILE")
    if stream and rows is not None:
        raise click.UsageError("--stream shows one run; it goes with --input")
    program = load(spec, lms=lms, overrides=overrides)
    if not inputs and rows is None and program.wrong_inputs({}):
        raise click.UsageError(SAY)
    program = program.faked() if fake else program
    program = program.with_budget(budget_of(budget)) if budget else program
    options = RunOptions(seed=seed, on_text=_shown() if stream else None)
    with TraceWriter(trace) if trace else contextlib.nullcontext() as writer:
        if rows is None:
            given = {name: _typed(program, name, text) for name, text in pairs("--input", inputs).items()}
            result = run_async(lambda: program.run(given, options=options))
            if writer is not None:
                writer.write(result.records)
            if stream:
                click.echo(err=True)
            if result.error is not None:
                click.echo(f"lmprog: {result.error}", err=True)
                sys.exit(exit_status([result.error.kind]))
            click.echo(json.dumps(result.outputs, ensure_ascii=False, indent=2))
            return
        assert out is not None
        sys.exit(run_async(lambda: _rows(program, rows, out, writer, options, concurrency)))


async def _rows(program: Any, rows: Path, out: Path, writer: Any, options: Any, concurrency: int | None) -> int:
    """Write a line for each row, in the order of the rows, after those that `out` holds from an earlier run."""
    from itertools import islice

    from lmprog.blame import exit_status
    from lmprog.compiler.data import text_columns
    from lmprog.compiler.row_files import read_file
    from lmprog.errors import BudgetExceeded
    from lmprog.trace import as_line

    # Read through once before anything is paid for: a line that cannot be read is known now.
    texts = text_columns(program.plan.inputs)
    total = sum(1 for _ in read_file(rows, texts))
    done = _done(out)
    if done:
        click.echo(f"{out} holds the first {done} of {total} rows; going on with the rest", err=True)
    if done and writer is not None:
        writer.drop_rows_from(done)
    failed: list[str] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    index = done
    with out.open("ab") as file, RowProgress("rows", total, done) as progress:
        given = islice(read_file(rows, texts), done, None)
        try:
            async for result in program.stream(given, concurrency=concurrency, options=options, first=done):
                error = None if result.error is None else str(result.error)
                # The trace first: what `out` holds is never without its records, and a resumed run drops those beyond it.
                if writer is not None:
                    writer.write(result.records)
                file.write(as_line({"row": index, "outputs": result.outputs, "error": error}))
                file.flush()
                if result.error is not None and result.error.kind != "unreadable":
                    failed.append(result.error.kind)
                index += 1
                progress.advance()
        except BudgetExceeded as error:
            raise BudgetExceeded(
                f"{error}; {out} holds the first {index} of {total} rows: run again to go on"
            ) from None
    click.echo(f"{index} rows in {out}" + (f", {len(failed)} of this run failed" if failed else ""), err=True)
    return exit_status(failed)


def _done(out: Path) -> int:
    """How many rows `out` holds; a torn last line is cut off. Raises UsageError for a file that no run has written."""
    from lmprog.errors import UsageError
    from lmprog.trace import cut_torn_line, read_lines

    if not out.exists():
        return 0
    count = 0
    try:
        for count, line in enumerate(read_lines(out), start=1):
            if line["row"] != count - 1:
                raise ValueError
        with out.open("rb") as file:
            if count == 0 and not b'{"row": 0'.startswith(file.read(9)):
                raise ValueError
    except (ValueError, TypeError, LookupError):
        raise UsageError(
            f"{out} is not what `lmprog run --out` writes, so it is left alone; name another file"
        ) from None
    cut_torn_line(out)
    return count


def _shown() -> Callable[[TextPiece], None]:
    """Shows pieces of replies, each reply under the path of its step."""
    last: tuple[str, int] | None = None

    def show(piece: TextPiece) -> None:
        nonlocal last
        if piece.text is None:
            last = None
        else:
            if (piece.path, piece.attempt) != last:
                click.echo(f"\n[{piece.path}] ", nl=False, err=True)
                last = piece.path, piece.attempt
            click.echo(piece.text, nl=False, err=True)

    return show


def _typed(program: Any, name: str, text: str) -> Any:
    """A string input as it stands on the command line; others as YAML."""
    from lmprog.compiler.types import STR, Enum

    declared = program.plan.inputs.get(name)
    if declared is None or declared.type == STR or isinstance(declared.type, Enum):
        return text
    return as_value(text)
