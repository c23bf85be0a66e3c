"""`lmprog run`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.environment import with_environment
from lmprog.cli.options import BUDGET, SPEC, TAGS, budget_of, overriding, pairs, placed, typed
from lmprog.cli.row_progress import RowProgress

if TYPE_CHECKING:
    from lmprog.runtime.events import TextPiece

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
@TAGS
@click.option("--seed", default=0, show_default=True, help="Seed of every draw.")
@click.option("--stream", is_flag=True, help="Show replies on standard error as they come, where the LM can stream.")
@click.option("--concurrency", type=click.IntRange(1), help="Rows at work at a time.")
@click.option(
    "--repeat-writes", is_flag=True, help="Run also rows again that failed after a call of a tool that writes."
)
@BUDGET
@placed
@with_environment
def command(
    spec: Path,
    lms: dict[str, str],
    overrides: dict[str, Any],
    inputs: tuple[str, ...],
    rows: Path | None,
    out: Path | None,
    trace: Path | None,
    fake: bool,
    tags: dict[str, str],
    seed: int,
    stream: bool,
    concurrency: int | None,
    repeat_writes: bool,
    budget: tuple[str, ...],
    on: str | None,
    workers: int | None,
) -> None:
    """Run the program in SPEC on one input, or on the rows of a file.

    \b
    lmprog run program.yaml --input text="Where is my parcel?"
    lmprog run program.yaml --inputs rows.jsonl --out answers.jsonl     # goes on where it was cut
    """
    import contextlib

    from lmprog.aio.loops import run_async
    from lmprog.blame import exit_status
    from lmprog.boundary.json_text import json_text
    from lmprog.runners import opened
    from lmprog.runtime.options import RunOptions
    from lmprog.runtime.program import load
    from lmprog.runtime.result import recorded
    from lmprog.traces.files import TraceWriter
    from lmprog.traces.run_record import RunRecorder

    if inputs and rows is not None:
        raise click.UsageError(SAY)
    if rows is not None and out is None:
        raise click.UsageError("--inputs needs --out FILE")
    if stream and rows is not None:
        raise click.UsageError("--stream shows one run; it goes with --input")
    if rows is None and (on is not None or workers is not None):
        raise click.UsageError("--on and --workers are for many rows; they go with --inputs")
    program = load(spec, lms=lms, overrides=overrides)
    if not inputs and rows is None and program.wrong_inputs({}):
        raise click.UsageError(SAY)
    program = program.faked() if fake else program
    program = program.with_budget(budget_of(budget)) if budget else program
    options = RunOptions(seed=seed, tags=tags, on_text=_shown() if stream else None)
    with TraceWriter(trace) if trace else contextlib.nullcontext() as writer:
        if rows is None:
            given = {name: _typed(program, name, text) for name, text in pairs("--input", inputs).items()}
            result = run_async(lambda: program.run(given, options=options))
            if writer is not None:
                writer.write([*result.records, recorded(RunRecorder(program.plan), result, 0)])
            if stream:
                click.echo(err=True)
            for each in result.recovered:
                click.echo(
                    f"lmprog: step `{each.step}` failed and was answered by its `on_error`: {each.failure}", err=True
                )
            if result.error is not None:
                click.echo(f"lmprog: {result.error}", err=True)
                sys.exit(exit_status([result.error.kind]))
            click.echo(json_text(result.outputs, indent=2))
            return
        assert out is not None
        with opened(on, workers, spec.parent) as runner:
            placed = program.with_runner(runner)
            status = run_async(
                lambda: _rows(placed, spec, rows, out, writer, options, fake, concurrency, repeat_writes)
            )
        sys.exit(status)


async def _rows(
    program: Any,
    spec: Path,
    rows: Path,
    out: Path,
    writer: Any,
    options: Any,
    fake: bool,
    concurrency: int | None,
    repeat_writes: bool,
) -> int:
    """Run the program on the rows of the file `rows` that `out` lacks from an earlier run or has as failed, and write a line
    for each, in the order of the rows; return the exit status.

    `writer` writes the trace (None: none is wanted), `concurrency` is the number of rows at work at a time (None: as the
    spec says). Rows that failed after a call of a tool that writes are run again only with `repeat_writes`. Raises
    BudgetExceeded, with what `out` holds, where the budget is spent.
    """
    from dataclasses import replace
    from itertools import compress

    from lmprog.blame import exit_status
    from lmprog.compiler.rows.files import read_file
    from lmprog.compiler.rows.splits import text_columns
    from lmprog.errors import BudgetExceeded
    from lmprog.runtime.result import recorded
    from lmprog.scoring.recovered import RecoveredCounts
    from lmprog.state import identity
    from lmprog.state.digests import digest
    from lmprog.state.origin import Origin
    from lmprog.state.out_file import OutFile
    from lmprog.state.unchanged import Unchanged
    from lmprog.traces.run_record import RunRecorder

    recorder = RunRecorder(program.plan)
    how = {"--seed": digest(options.seed), **({"--fake": digest(fake)} if fake else {})}
    source_digests = {**identity.version(), **identity.of_program(program.plan), **how}
    trace = str(writer.path) if writer is not None else ""
    begun = {trace: writer.end} if writer is not None else {}
    origin = Origin(program.plan.name, str(spec.resolve()), source_digests, options.seed, traces=begun)
    # Read through once before anything is paid for: a line that cannot be read is known now.
    texts = text_columns(program.plan.inputs)
    unchanged = Unchanged([rows, *identity.files_of(program.plan)])
    with OutFile(out, origin, read_file(rows, texts), unchanged, repeat_writes=repeat_writes) as file:
        total, done, held = file.total, file.done, file.held
        again = file.failed - len(held)
        if not fake:
            options = replace(options, before_write=file.before_write)
        if file.passed_over:
            click.echo(f"{out}: {file.passed_over}; their rows are run again", err=True)
        if done or again or held:
            failed = f", and with {again} that failed" if again else ""
            click.echo(f"{out} holds {done + file.failed} of {total} rows; going on with the rest{failed}", err=True)
        if held:
            which = "1 row that" if len(held) == 1 else f"{len(held)} rows that"
            click.echo(
                f"{which} failed after a call of a tool that writes will not be run again, which could repeat what it did: "
                f"row {', '.join(map(str, sorted(held)[:10]))}{', ...' if len(held) > 10 else ''}; "
                "--repeat-writes runs them too",
                err=True,
            )
        if writer is not None:
            writer.drop_rows(file.traces[trace], file.missing_from, held)
        to_do, kinds, recovered = file.to_do(), Counter[str](), RecoveredCounts()
        chosen = compress(read_file(rows, texts), to_do) if any(to_do) else ()
        numbers, following = (compress(range(total), to_do) for _ in range(2))
        with RowProgress("rows", total, done) as progress:
            try:
                async for result in program.stream(chosen, concurrency=concurrency, options=options, numbers=numbers):
                    error = None if result.error is None else str(result.error)
                    # The trace first: what `out` holds is never without its records; a resumed run drops those beyond it.
                    number = next(following)
                    if writer is not None:
                        writer.write([*result.records, recorded(recorder, result, number)])
                    file.add(number, result.outputs, error, result.recovered)
                    recovered.add(f"row {number}: ", result)
                    if result.error is not None:
                        kinds[result.error.kind] += 1
                    progress.advance()
            except BudgetExceeded as error:
                raise BudgetExceeded(
                    f"{error}; {out} holds {file.done + file.failed} of {total} rows: run again to go on"
                ) from None
    for each in recovered.runs():
        click.echo(str(each), err=True)
    unreadable = kinds.pop("unreadable", 0)
    click.echo(
        f"{total} rows in {out}"
        + (f", {kinds.total() + len(held)} failed" if kinds or held else "")
        + (f", {unreadable} with a reply that could not be read" if unreadable else ""),
        err=True,
    )
    return max(exit_status(kinds), 1 if held else 0)


def _shown() -> Callable[[TextPiece], None]:
    """Return a callback that prints pieces of replies on standard error as they come, each reply under the path of its step."""
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
    """Return the value of an input for its text on the command line, as `typed` reads it; of an unknown input the text
    itself. Raises click.BadParameter where it is no YAML.
    """
    declared = program.plan.inputs.get(name)
    return text if declared is None else typed(declared.type, text)
