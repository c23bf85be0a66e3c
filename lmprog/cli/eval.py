"""`lmprog eval`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import SPEC, output_format, overriding


@click.command()
@SPEC
@overriding
@click.option("--split", default="test", show_default=True, help="The data split to score on.")
@click.option("--metric", help="The metric; default: the one that `optimize` names, else the only one.")
@click.option(
    "--repeats", default=1, show_default=True, type=click.IntRange(1), help="Runs of each row, with other seeds."
)
@click.option(
    "--against", type=click.Path(path_type=Path), help="Another program, scored on the same rows and compared."
)
@click.option("--seed", default=0, show_default=True, help="Seed of every draw.")
@click.option("--concurrency", type=click.IntRange(1), help="Rows at work at a time.")
@output_format("text", "json")
def command(
    spec: Path,
    lms: dict[str, str],
    overrides: dict[str, Any],
    split: str,
    metric: str | None,
    repeats: int,
    against: Path | None,
    seed: int,
    concurrency: int | None,
    style: str,
) -> None:
    """Score the program in SPEC on a data split, with a 95% interval.

    \b
    lmprog eval program.yaml
    lmprog eval program.tuned.yaml --against program.yaml        # the paired difference, its interval and p value
    """
    from lmprog.data import rows_of
    from lmprog.evaluation import evaluate
    from lmprog.program import RunOptions, load

    program = load(spec, lms=lms, overrides=overrides)
    rows = rows_of(program.plan, split)
    chosen = _metric(program.plan, metric)
    how: dict[str, Any] = {
        "repeats": repeats,
        "concurrency": concurrency,
        "options": RunOptions(seed=seed),
    }
    scores = _shown(str(spec), len(rows) * repeats, lambda tick: evaluate(program, rows, chosen, on_row=tick, **how))
    failed = list(scores.errors)
    document: dict[str, Any] = {"program": program.plan.name, "split": split, "metric": chosen, **_described(scores)}
    lines = [f"{spec}: {chosen} {scores.estimate} on {len(scores.by_row)} rows of {split}{_remarks(scores)}"]
    if against is not None:
        other_program = load(against, lms=lms, overrides=overrides)
        other = _shown(
            str(against), len(rows) * repeats, lambda tick: evaluate(other_program, rows, chosen, on_row=tick, **how)
        )
        difference = scores.against(other)
        failed += other.errors
        document["against"] = {"program": other_program.plan.name, "spec": str(against), **_described(other)}
        document["difference"] = difference.as_json()
        lines.append(f"{against}: {chosen} {other.estimate}{_remarks(other)}")
        lines.append(f"difference, paired: {difference}")
    click.echo(json.dumps(document) if style == "json" else "\n".join(lines))
    sys.exit(max((3 if row.kind == "provider" else 1 for row in failed), default=0))


def _metric(plan: Any, named: str | None) -> str:
    if named is not None:
        return named
    if plan.optimize is not None:
        return str(plan.optimize.metric)
    if len(plan.metrics) == 1:
        return str(next(iter(plan.metrics)))
    raise click.UsageError(f"say which metric with --metric: {', '.join(plan.metrics) or 'the program has none'}")


def _described(scores: Any) -> dict[str, Any]:
    return {
        **scores.estimate.as_json(),
        "n": len(scores.by_row),
        "unreadable": scores.unreadable,
        "errors": len(scores.errors),
    }


def _remarks(scores: Any) -> str:
    said = ""
    if scores.unreadable:
        said += f"; {scores.unreadable} replies could not be read (scored lowest)"
    if scores.errors:
        said += f"; {len(scores.errors)} runs failed and are not scored: {scores.errors[0].cause}"
    return said


def _shown(what: str, total: int, work: Any) -> Any:
    """Run `work`, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=total)
        return work(lambda row: progress.advance(task))
