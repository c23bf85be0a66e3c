"""`lmprog render`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import NO_IMPORT, SPEC, output_format, overriding


@click.command()
@SPEC
@overriding
@NO_IMPORT
@click.option("--row", default=0, show_default=True, type=click.IntRange(0), help="Index of the row, from 0.")
@click.option("--split", help="The data split of the row; default: the first that the program has.")
@click.option("--step", help="Only the messages of this step.")
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
    """Show the exact messages that SPEC would send for a row of its data. No LM is asked.

    What an earlier LM call would have said is shown as a placeholder; tools that only read are called, but
    not with --no-import.
    """
    import asyncio

    from lmprog.compiler.prompts.messages import content_text
    from lmprog.runtime.program import load
    from lmprog.runtime.result import RunError
    from lmprog.scoring.data import rows_of

    program = load(spec, lms=lms, overrides=overrides, imports=not no_import).faked()
    plan = program.plan
    split = split or next(iter(plan.data), None)
    if split is None:
        raise click.UsageError(f"{plan.name} has no data to take a row from; name a split under `data:`")
    rows = rows_of(plan, split)
    if row >= len(rows):
        raise click.UsageError(f"{split} has {len(rows)} rows, so there is no row {row}")
    result = asyncio.run(program.run(program.inputs_of(rows[row]), example=row))
    if result.error is not None:
        raise RunError(result)
    shown: list[dict[str, Any]] = [
        {"step": made.path, "module": made.module, "messages": list(made.messages)}
        | ({"tools": [asdict(offer) for offer in made.tools]} if made.tools else {})
        for made in result.trace
        if step is None or step in (made.path, plain(made.path), *plain(made.path).split("."))
    ]
    if not shown:
        known = ", ".join(dict.fromkeys(plain(made.path) for made in result.trace))
        raise click.UsageError(f"{plan.name} has no step {step!r} that calls a module; there are {known or 'none'}")
    if style == "json":
        click.echo(json.dumps(shown, ensure_ascii=False))
        return
    for entry in shown:
        click.secho(f"=== {entry['step']} (module {entry['module']})", bold=True)
        for message in entry["messages"]:
            click.secho(f"--- {message['role']}", fg="cyan")
            click.echo(content_text(message["content"]))
        for offer in entry.get("tools", ()):
            click.secho(f"--- tool {offer['name']}", fg="cyan")
            click.echo(json.dumps(offer, ensure_ascii=False, indent=2))


def plain(path: str) -> str:
    """Return the path of a step without the turns of loops and the positions of lists."""
    return re.sub(r"\[\d+\]", "", path)
