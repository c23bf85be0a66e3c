"""`lmprog eval`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.options import ALLOW_WRITES, BUDGET, SPEC, budget_of, metric_of, once, output_format, overriding

if TYPE_CHECKING:
    from lmprog.reports.scores import Evaluation
    from lmprog.runtime.program import Program
    from lmprog.scoring.statistics import Difference
    from lmprog.state.origin import Origin
    from lmprog.state.whole_results import WholeResults


@click.command()
@SPEC
@overriding
@click.option("--split", default="test", show_default=True, help="The data split to score on.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Score the first N rows only.")
@click.option(
    "--metric",
    callback=once,
    multiple=True,
    help="The metric; default: the one that `optimize` names, else the only one.",
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
@click.option("--seed", default=0, show_default=True, help="Seed of every draw.")
@click.option("--concurrency", type=click.IntRange(1), help="Rows at work at a time.")
@BUDGET
@ALLOW_WRITES
@output_format("text", "json")
def command(
    spec: Path,
    lms: dict[str, str],
    overrides: dict[str, Any],
    split: str,
    limit: int | None,
    metric: str | None,
    repeats: int,
    against: Path | None,
    by: str | None,
    out: Path | None,
    html: Path | None,
    trace: Path | None,
    seed: int,
    concurrency: int | None,
    budget: tuple[str, ...],
    allow_writes: bool,
    style: str,
) -> None:
    """Score the program in SPEC on a data split, with a 95% interval.

    \b
    lmprog eval program.yaml
    lmprog eval program.tuned.yaml --against program.yaml        # the paired difference, its interval and p value
    lmprog eval program.yaml --html eval.html --trace eval.jsonl # a page with every row
    """
    from lmprog.blame import exit_status, is_outage
    from lmprog.cli.row_progress import RowProgress
    from lmprog.reports.scores import Evaluation, difference_document, difference_line, document, lines
    from lmprog.runtime.options import RunOptions
    from lmprog.runtime.program import load
    from lmprog.runtime.writes import refuse_writes
    from lmprog.scoring.data import rows_of
    from lmprog.scoring.evaluation import RowScore, doubt, evaluate
    from lmprog.scoring.small_samples import few
    from lmprog.state.whole_results import WholeResults
    from lmprog.traces.files import TraceWriter

    program = load(spec, lms=lms, overrides=overrides)
    other = load(against, lms=lms, overrides=overrides) if against is not None else None
    if budget:
        shared = budget_of(budget)
        program, other = program.with_budget(shared), other.with_budget(shared) if other is not None else None
    whole = rows_of(program.plan, split)
    rows = whole[:limit]
    chosen = metric_of(program.plan, metric)
    planned = [which.plan for which in (program, other) if which is not None]
    refuse_writes(((plan, len(rows) * repeats) for plan in planned), allow_writes)
    if out is not None:
        _refuse_others(out)

    def scored(what: Path, which: Program, writer: Any, file: Any) -> Evaluation:
        with RowProgress(str(what), len(rows) * repeats) as progress:

            def on_row(row: RowScore) -> None:
                progress.advance()
                if file is not None:
                    file.add(row.as_json())
                if writer is not None:
                    writer.write([*row.earlier, *row.result.records, *row.judged])

            options = RunOptions(seed=seed)
            scores = evaluate(
                which,
                rows,
                chosen,
                repeats=repeats,
                options=options,
                concurrency=concurrency,
                on_row=on_row,
                allow_writes=True,
            )
        return Evaluation(which, what, split, rows, len(whole), scores.checked(), by)

    with contextlib.ExitStack() as files:
        writer = files.enter_context(TraceWriter(trace)) if trace is not None else None
        file = None
        if out is not None:
            origin = _origin(program, spec, chosen, split, rows, seed, repeats)
            file = files.enter_context(WholeResults(out, origin))
            files.callback(_say_part, file)
        mine = scored(spec, program, writer, file)
        if file is not None:
            file.keep()
        theirs = scored(against, other, writer, None) if against is not None and other is not None else None
    difference = mine.scores.against(theirs.scores) if theirs is not None else None
    remark = few(len(mine.scores.by_row), difference.ci95 if difference is not None else None)
    remarks = [f"  {remark}"] if remark is not None else []
    printed, values = lines(mine), {**document(mine), "few_rows": remark}
    failed, evaluations = [mine.scores], [mine]
    if theirs is not None and difference is not None:
        failed.append(theirs.scores)
        evaluations.append(theirs)
        printed += [*lines(theirs), difference_line(difference), *remarks]
        values.update(against=document(theirs), difference=difference_document(difference))
        if doubtful := doubt({str(spec): mine.scores, str(against): theirs.scores}):
            printed.append(doubtful)
            values["difference"]["doubt"] = doubtful
    else:
        printed[1:1] = remarks
    click.echo(json.dumps(values, ensure_ascii=False, default=str) if style == "json" else "\n".join(printed))
    if html is not None:
        _write_page(html, evaluations, difference, trace)
    # What fails by itself is a score like another; but a metric that raises on a row wants mending.
    kinds = [kind for scores in failed for kind in (*scores.causes, *scores.failures)]
    sys.exit(exit_status(kind for kind in kinds if is_outage(kind) or kind == "metric"))


def _write_page(
    html: Path, evaluations: Sequence[Evaluation], difference: Difference | None, trace: Path | None
) -> None:
    from lmprog.compiler.yaml.whole_file import write_whole
    from lmprog.reports.page.evaluation_report import EvaluationReport, evaluation_page

    write_whole(html, evaluation_page(EvaluationReport(evaluations, difference, trace, html.resolve().parent)))
    click.echo(f"written: {html}", err=True)


def _say_part(file: WholeResults) -> None:
    """Say where the lines of an evaluation stand that was cut."""
    if file.part.exists() and file.part.stat().st_size:
        click.echo(f"what is scored so far stands in {file.part}", err=True)


def _refuse_others(out: Path) -> None:
    """Raise UsageError for a file that no evaluation has written."""
    from lmprog.errors import UsageError

    if out.exists() and out.stat().st_size:
        with out.open("rb") as file:
            if not file.read(8).startswith(b'{"row": '):
                raise UsageError(
                    f"{out} is not what `lmprog eval --out` writes, so it is left alone; name another file"
                )


def _origin(
    program: Program, spec: Path, chosen: str, split: str, rows: Sequence[Any], seed: int, repeats: int
) -> Origin:
    """Return the origin of the scores: digests of everything that they depend on."""
    from lmprog.state import identity
    from lmprog.state.digests import digest
    from lmprog.state.origin import Origin

    source_digests = {
        **identity.version(),
        **identity.of_program(program.plan),
        **identity.of_metric(program.plan, chosen),
        f"data.{split}": identity.of_rows(rows),
        "--seed": digest(seed),
        "--repeats": digest(repeats),
    }
    return Origin(program.plan.name, str(spec.resolve()), source_digests, seed, len(rows))
