"""`lmprog render`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.options import NO_IMPORT, SPEC, output_format, overriding

if TYPE_CHECKING:
    from lmprog.compiler.plan import Plan


@click.command()
@SPEC
@overriding
@NO_IMPORT
@click.option("--row", default=0, show_default=True, type=click.IntRange(0), help="Index of the row, from 0.")
@click.option("--split", help="The data split of the row; default: the first that the program has.")
@click.option("--step", help="Only the requests of this step, by its id or path.")
@output_format("text", "json")
def command(
    spec: Path,
    lms: dict[str, str],
    overrides: dict[str, Any],
    no_import: bool,
    row: int,
    split: str | None,
    step: str | None,
    style: str,
) -> None:
    """Show the whole requests that SPEC would send for a row of its data. No LM is asked.

    Each has its messages, tools, the schema of its reply, parameters, tokens, and the part that is the same for every
    row, which a provider's prompt cache can keep. What an earlier LM call would have said is shown as a placeholder;
    tools that only read are called, but not with --no-import.

    \b
    lmprog render program.yaml --row 3
    lmprog render program.yaml --step draft            # also a step in a loop, or one that runs a sub-program
    """
    from lmprog.aio.loops import run_async
    from lmprog.reports.requests import document, lines
    from lmprog.runtime.program import load
    from lmprog.runtime.rendering import names_step, rendered
    from lmprog.runtime.result import RunError
    from lmprog.scoring.data import rows_of

    program = load(spec, lms=lms, overrides=overrides, imports=not no_import)
    plan = program.plan
    split = split or next(iter(plan.data), None)
    if split is None:
        raise click.UsageError(f"{plan.name} has no data to take a row from; name a split under `data:`")
    rows = rows_of(plan, split)
    if row >= len(rows):
        raise click.UsageError(f"{split} has {len(rows)} rows, so there is no row {row}")
    result, requests = run_async(lambda: rendered(program, program.inputs_of(rows[row]), row))
    if result.error is not None:
        raise RunError(result)
    shown = [document(made) for made in requests if step is None or names_step(made.path, step)]
    if not shown:
        raise click.UsageError(_no_step(plan, step, row, [made.path for made in requests]))
    if style == "json":
        click.echo(json.dumps(shown, ensure_ascii=False, default=str))
        return
    for entry in shown:
        click.secho(f"=== {entry['step']} (module {entry['module']}, LM {entry['lm']}: {entry['model']})", bold=True)
        for heading, text in lines(entry):
            click.secho(f"--- {heading}", fg="cyan")
            click.echo(text)


def _no_step(plan: Plan, step: str | None, row: int, paths: Sequence[str]) -> str:
    """Return a message on the reason why no request is shown: no LM is asked for this row (`step` None), or not by the step
    that `--step` names, or there is no such step. `paths` are those of the steps that do ask an LM.
    """
    from lmprog.runtime.rendering import has_step, plain_path

    known = ", ".join(dict.fromkeys(map(plain_path, paths))) or "none"
    if step is None:
        return f"{plan.name} asks no LM for row {row}"
    if has_step(plan, step):
        return f"the step {step!r} of {plan.name} asks no LM for row {row}; those that do are {known}"
    return f"{plan.name} has no step {step!r} that calls a module; there are {known}"
