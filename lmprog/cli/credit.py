"""`lmprog credit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from lmprog.cli.environment import with_environment
from lmprog.cli.options import (
    ALLOW_WRITES,
    BUDGET,
    SPEC,
    budget_of,
    limits_of,
    metric_of,
    output_format,
    overriding,
    placed,
)

SAMPLED = 40
"""Rows, unless --limit says otherwise: a share of one half of scores of 0 and 1 is then known to about a tenth either way."""


@click.command()
@SPEC
@overriding
@click.option("--split", default="dev", show_default=True, help="The data split to take rows from.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help=f"The first N rows only; default: {SAMPLED} to sample on, all to compare on.",
)
@click.option("--metric", help="The metric; default: the one that `optimize` names, else the only one.")
@click.option(
    "--repeats", default=8, show_default=True, type=click.IntRange(2), help="Runs of each row, with other seeds."
)
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    help="Sample all modules at this temperature, as `grpo` does at 1; default: their own params.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="The program that SPEC was tuned from: score the tuning of each module alone, and of all together.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of every draw.")
@click.option("--dry-run", is_flag=True, help="Print the most calls, tokens and money, and an estimate; run nothing.")
@BUDGET
@ALLOW_WRITES
@placed
@output_format("text", "json")
@with_environment
def command(
    spec: Path,
    lms: dict[str, str],
    overrides: dict[str, Any],
    split: str,
    limit: int | None,
    metric: str | None,
    repeats: int,
    temperature: float | None,
    against: Path | None,
    seed: int,
    dry_run: bool,
    budget: tuple[str, ...],
    allow_writes: bool,
    on: str | None,
    workers: int | None,
    style: str,
) -> None:
    """Show how much of the score's variance each module of SPEC accounts for.

    Each row is run several times. Then the calls of a module are sampled anew while the rest of the run is replayed; what
    follows from a new reply is answered anew. The share of a module is what its own replies change in the score to be expected.
    A module whose prompts matter may have a small share, where its replies hardly vary: --against tells of tuning.

    \b
    lmprog credit program.yaml --temperature 1
    lmprog credit program.tuned.yaml --against program.yaml     # and what tuning each module alone gains
    lmprog credit program.yaml --dry-run
    """
    from lmprog.aio.loops import run_async
    from lmprog.blame import exit_status
    from lmprog.cli.row_progress import RowProgress
    from lmprog.credit.alone import gains, tuned_modules, versions
    from lmprog.credit.forecast import forecast
    from lmprog.credit.variance import measure
    from lmprog.reports import credit as report
    from lmprog.runners import opened
    from lmprog.runtime.options import RunOptions
    from lmprog.runtime.program import load
    from lmprog.runtime.writes import refuse_writes
    from lmprog.scoring.data import rows_of

    program = load(spec, lms=lms, overrides=overrides)
    before = load(against, lms=lms, overrides=overrides) if against is not None else None
    rows = rows_of(program.plan, split)
    sampled, compared = rows[: limit or SAMPLED], rows[:limit]
    chosen = metric_of(program.plan, metric)
    tuned = tuned_modules(before.plan, program.plan) if before is not None else []
    count = versions(tuned) if tuned else 0
    if dry_run:
        from lmprog.reports.forecast import document, text

        expected = forecast(program, chosen, sampled, repeats, compared if tuned else (), count)
        if style == "json":
            click.echo(json.dumps(document(program.plan.name, expected, limits_of(budget))))
        else:
            text(program.plan.name, expected, limits_of(budget))
        return
    # How often calls are sampled anew follows from the replies, so the runs are not known.
    refuse_writes(((which.plan, None) for which in (program, before) if which is not None), allow_writes)
    shared = budget_of(budget)
    # It is closed with the command.
    runner = click.get_current_context().with_resource(opened(on, workers, spec.parent))
    program = program.with_budget(shared).with_runner(runner)
    options = RunOptions(seed=seed, params={} if temperature is None else {"temperature": temperature})
    with RowProgress(str(spec), len(sampled)) as progress:
        measured = run_async(
            lambda: measure(
                program, sampled, chosen, repeats=repeats, options=options, on_row=progress.advance, allow_writes=True
            )
        )
    printed, document_ = report.lines(measured), {"program": program.plan.name, "split": split, **measured.as_json()}
    failed = dict(measured.lost)
    if before is not None and against is not None:
        start, params = before.with_budget(shared).with_runner(runner), RunOptions(seed=seed)
        with RowProgress(f"{spec} against {against}", len(compared) * count) as progress:
            gained = run_async(lambda: gains(start, program, compared, chosen, options=params, on_row=progress.advance))
        printed += report.gain_lines(gained, str(spec), str(against))
        document_["tuned_alone"] = report.gain_document(gained)
        failed |= report.failures(gained)
    spent = shared.spent
    printed.append(f"  {spent.lm_calls:,} LM calls, {spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens")
    document_["spent"] = spent.as_json()
    click.echo(json.dumps(document_, ensure_ascii=False) if style == "json" else "\n".join(printed))
    sys.exit(exit_status(failed) or int(measured.note is not None))
