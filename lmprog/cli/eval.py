"""`lmprog eval`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.environment import with_environment
from lmprog.cli.options import (
    ALLOW_WRITES,
    BUDGET,
    TAGS,
    budget_of,
    comparing,
    limits_of,
    listed,
    metric_of,
    output_format,
    placed,
)

if TYPE_CHECKING:
    from lmprog.cli.columns import Column
    from lmprog.compiler.plan import LM
    from lmprog.lms.api.batch_lm import BatchRun
    from lmprog.lms.fake import FakeLM
    from lmprog.reports.matrix import Matrix
    from lmprog.reports.scores import Evaluation
    from lmprog.runtime.program import Program
    from lmprog.scoring.evaluation import RowScore
    from lmprog.state.origin import Origin
    from lmprog.state.whole_results import WholeResults


@click.command()
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...", type=click.Path(path_type=Path))
@comparing
@click.option("--split", default="test", show_default=True, help="The data split to score on.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Score the first N rows only.")
@click.option(
    "--metric",
    "metrics",
    callback=listed,
    multiple=True,
    help="The metric, or several: a,b. Default: the one that `optimize` names, else the only one.",
)
@click.option(
    "--repeats", default=1, show_default=True, type=click.IntRange(1), help="Runs of each row, with other seeds."
)
@click.option(
    "--against", type=click.Path(path_type=Path), help="Another program, scored on the same rows and compared."
)
@click.option(
    "--by",
    metavar="COLUMN",
    help="Group the scores by a column of the rows; default: the label that the metric compares an output with.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write a JSON line for each scored run of SPEC; a file that is there stays until all are.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with the scores and each row's answers to this file, which asks the network for nothing.",
)
@click.option("--trace", type=click.Path(path_type=Path), help="Append every LM call, of judges too, to this file.")
@TAGS
@click.option("--seed", default=0, show_default=True, help="Seed of every draw.")
@click.option("--concurrency", type=click.IntRange(1), help="Rows at work at a time.")
@click.option(
    "--batch",
    is_flag=True,
    help="Make the calls of openai/ models through the provider's batches: half the price, within a day. A run that is cut "
    "goes on with the batches that it had submitted.",
)
@click.option("--dry-run", is_flag=True, help="Print what it may cost, and ask no LM.")
@click.option("--fake", is_flag=True, hidden=True)
@BUDGET
@ALLOW_WRITES
@placed
@output_format("text", "json")
@with_environment
def command(
    specs: tuple[Path, ...],
    lms: dict[str, list[str]],
    overrides: dict[str, Any],
    split: str,
    limit: int | None,
    metrics: tuple[str, ...],
    repeats: int,
    against: Path | None,
    by: str | None,
    out: Path | None,
    html: Path | None,
    trace: Path | None,
    tags: dict[str, str],
    seed: int,
    concurrency: int | None,
    batch: bool,
    dry_run: bool,
    fake: bool,
    budget: tuple[str, ...],
    allow_writes: bool,
    on: str | None,
    workers: int | None,
    style: str,
) -> None:
    """Score the program in SPEC on a data split, with a 95% interval; several programs or models on the same rows.

    \b
    lmprog eval program.yaml
    lmprog eval program.tuned.yaml --against program.yaml        # the paired difference, its interval and p value
    lmprog eval program.yaml --html eval.html --trace eval.jsonl # a page with every row
    lmprog eval a.yaml b.yaml --lm student=m1,m2 --metric right,polite   # each compared with the first, row by row
    """
    from lmprog.cli.columns import Plan, columns_of, score, unscored
    from lmprog.errors import LmprogError, UsageError
    from lmprog.reports.matrix import Matrix
    from lmprog.runners import opened
    from lmprog.runtime.options import RunOptions
    from lmprog.runtime.writes import refuse_writes
    from lmprog.scoring.data import rows_of
    from lmprog.scoring.metrics import Scorer
    from lmprog.scoring.scores import scored_run
    from lmprog.state.whole_results import WholeResults
    from lmprog.traces.files import TraceWriter
    from lmprog.traces.run_record import RunRecorder

    if fake:
        raise click.UsageError(
            "--fake makes replies up, and their score says nothing: lmprog test --fake runs the program without any model, "
            "and --dry-run prints what an evaluation may cost"
        )
    limits = limits_of(budget)
    shared = budget_of(budget) if budget else None
    columns = columns_of(specs, lms, overrides, shared)
    if batch and on is not None:
        raise UsageError("a batch is waited for in this process; leave out --on, or --batch")
    several = len(columns) > 1
    if several and (against is not None or out is not None):
        raise UsageError(
            f"{'--out' if out is not None else '--against'} is for one program with one model; leave it out"
        )
    if against is not None:
        columns += columns_of([against], lms, overrides, shared)
    batch_run = _batch_run() if batch and not dry_run else None
    if batch:
        make = batch_run.make if batch_run is not None else _batch_price
        columns = [replace(column, program=column.program.batched(make)) for column in columns]
    first = columns[0]
    whole = rows_of(first.program.plan, split)
    rows = whole[:limit]
    chosen = metrics or (metric_of(first.program.plan, None),)
    for column in columns:
        for id in chosen:
            Scorer(column.program, id)
    if dry_run:
        _dry_run(columns, rows, repeats, chosen, limits, style)
        return
    refuse_writes(((column.program.plan, len(rows) * repeats) for column in columns), allow_writes)
    if out is not None:
        _refuse_others(out)
    if batch:  # all calls that can be made are in one batch
        concurrency = concurrency or max(1, len(rows))
    how = {"repeats": repeats, "options": RunOptions(seed=seed, tags=tags), "concurrency": concurrency}
    plan = Plan(split, rows, len(whole), chosen, by, how)
    evaluations: list[Evaluation] = []
    failed: LmprogError | None = None
    with contextlib.ExitStack() as files:
        writer = files.enter_context(TraceWriter(trace)) if trace is not None else None
        file = None
        if out is not None:
            origin = _origin(first.program, first.spec, chosen, split, rows, seed, repeats)
            file = files.enter_context(WholeResults(out, origin))
            files.callback(_say_part, file)
        runner = files.enter_context(opened(on, workers, first.spec.parent))
        for column in columns:
            recorder = RunRecorder(column.program.plan)

            def on_row(
                row: RowScore, lines: Any = file if column is first else None, recorder: RunRecorder = recorder
            ) -> None:
                if lines is not None:
                    lines.add(row.as_json())
                if writer is not None:
                    run = scored_run(recorder, row, rows[row.row], chosen)
                    writer.write([*row.earlier, *row.result.records, *row.all_judged, run])

            try:
                evaluations.append(score(column.on(runner), plan, on_row))
            except LmprogError as error:
                if not several:
                    raise
                failed = failed or error
                evaluations.append(unscored(column, plan, error))
            if file is not None and column is first:
                file.keep()
    matrix = Matrix(evaluations, base=len(columns) - 1 if against is not None else 0)
    _print(matrix, style, several)
    if html is not None:
        _write_page(html, matrix, trace)
    if failed is not None:
        raise failed
    if batch_run is not None:
        batch_run.forget(whole=not any(one.scores.outages.rows for one in evaluations))
    sys.exit(_status(evaluations))


def _batch_run() -> BatchRun:
    """Return the batches of this evaluation, which are kept in the cache folder, so that a run that is cut goes on with them;
    what it holds is released when the command ends.
    """
    from lmprog.lms.api.batch_lm import BatchRun
    from lmprog.state.cache_folder import cache_root

    held = click.get_current_context().with_resource(contextlib.ExitStack())
    return BatchRun(cache_root() / "batches", lambda text: click.echo(text, err=True), held)


def _batch_price(declared: LM) -> FakeLM:
    """Return a fake LM, which is never asked, in place of the declared one, for a forecast with the price of batches. Raises
    UsageError where the provider has no batches.
    """
    from lmprog.lms.api.batch_lm import require_batches
    from lmprog.lms.fake import FakeLM

    require_batches(declared)
    return FakeLM()


def _dry_run(
    columns: Sequence[Column],
    rows: Sequence[dict[str, Any]],
    repeats: int,
    metrics: Sequence[str],
    limits: dict[str, float],
    style: str,
) -> None:
    """Print what the evaluation of all columns on these rows may cost in the form `style`, a part for each program; `limits`
    are those of `--budget`.
    """
    from lmprog.reports.forecast import document, text
    from lmprog.scoring.costs import scoring_cost

    found = scoring_cost([(column.spec.name, column.program) for column in columns], rows, repeats, metrics)
    name = columns[0].program.plan.name
    if style == "json":
        click.echo(json.dumps(document(name, found, limits)))
    else:
        text(name, found, limits)


def _print(matrix: Matrix, style: str, several: bool) -> None:
    """Print the result of an evaluation in the form `style`: a table where there are `several` columns or metrics, else the
    scores of one program, and of another that it is compared with.
    """
    from lmprog.reports.matrix import matrix_document, matrix_lines, metrics_document
    from lmprog.reports.scores import difference_document, difference_line, document, lines

    mine, others = matrix.first, matrix.columns[1:]
    if style == "json" and several:
        values = {**matrix_document(matrix), "remarks": matrix.remarks}
    elif style == "json":
        values = {**document(mine), "few_rows": _few(matrix)}
        if len(matrix.metrics) > 1:
            values["metrics"] = metrics_document(matrix, mine)
        for other in others:
            difference = mine.scores.against(other.scores)
            doubtful = _doubt(matrix)
            said = {"doubt": doubtful} if doubtful is not None else {}
            values.update(against=document(other), difference={**difference_document(difference), **said})
    if style == "json":
        click.echo(json.dumps(values, ensure_ascii=False, default=str))
        return
    if several or len(matrix.metrics) > 1:
        click.echo("\n".join(matrix_lines(matrix)))
        return
    printed, remark = lines(mine), _few(matrix)
    remarks = [f"  {remark}"] if remark is not None else []
    for other in others:
        printed += [*lines(other), difference_line(mine.scores.against(other.scores)), *remarks]
        printed += [doubtful] if (doubtful := _doubt(matrix)) is not None else []
    if not others:
        printed[1:1] = remarks
    click.echo("\n".join(printed))


def _few(matrix: Matrix) -> str | None:
    """Return a warning that the rows are too few for the scores of the first program and metric; None where they are not."""
    from lmprog.scoring.small_samples import few

    difference = matrix.difference(matrix.first, matrix.metrics[0])
    return few(len(matrix.first.scores.by_row), difference.ci95 if difference is not None else None)


def _doubt(matrix: Matrix) -> str | None:
    """Return a warning that outages make the comparison of the columns doubtful; None where they do not."""
    from lmprog.scoring.evaluation import doubt

    return doubt({column.name: column.scores for column in matrix.columns})


def _status(evaluations: Sequence[Evaluation]) -> int:
    """Return the exit status: that of the outages and of metrics that raised, else 0. An own failure of a program is a score
    like another, and changes nothing.
    """
    from lmprog.blame import exit_status, is_outage

    found = [scores for one in evaluations for scores in one.metrics.values()]
    kinds = [kind for scores in found for kind in (*scores.causes, *scores.failures)]
    return exit_status(kind for kind in kinds if is_outage(kind) or kind == "metric")


def _write_page(html: Path, matrix: Matrix, trace: Path | None) -> None:
    """Write the page of an evaluation to the file `html`, with a link to the file `trace` (None: no trace was written)."""
    from lmprog.compiler.yaml.whole_file import write_whole
    from lmprog.reports.page.evaluation_report import EvaluationReport, evaluation_page

    write_whole(html, evaluation_page(EvaluationReport(matrix, trace, html.resolve().parent)))
    click.echo(f"written: {html}", err=True)


def _say_part(file: WholeResults) -> None:
    """Say on standard error in which file the lines of an evaluation that did not end stand; nothing where it has ended or
    has no line.
    """
    if file.part.exists() and file.part.stat().st_size:
        click.echo(f"what is scored so far stands in {file.part}", err=True)


def _refuse_others(out: Path) -> None:
    """Raise UsageError where the file `out` has content that `lmprog eval --out` has not written."""
    from lmprog.errors import UsageError

    if out.exists() and out.stat().st_size:
        with out.open("rb") as file:
            if not file.read(8).startswith(b'{"row": '):
                raise UsageError(
                    f"{out} is not what `lmprog eval --out` writes, so it is left alone; name another file"
                )


def _origin(
    program: Program, spec: Path, chosen: Sequence[str], split: str, rows: Sequence[Any], seed: int, repeats: int
) -> Origin:
    """Return the origin of the scores in `--out`: the program and the digests of everything that they depend on, which are its
    sources, the metrics `chosen`, the rows of the split, the seed and the number of repeats.
    """
    from lmprog.state import identity
    from lmprog.state.digests import digest
    from lmprog.state.origin import Origin

    source_digests = {
        **identity.version(),
        **identity.of_program(program.plan),
        **{key: value for id in chosen for key, value in identity.of_metric(program.plan, id).items()},
        f"data.{split}": identity.of_rows(rows),
        "--seed": digest(seed),
        "--repeats": digest(repeats),
    }
    return Origin(program.plan.name, str(spec.resolve()), source_digests, seed, len(rows))
