"""`lmprog diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import overriding


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@overriding
def command(old: Path, new: Path, lms: dict[str, str], overrides: dict[str, Any]) -> None:
    """Show how NEW differs from OLD in models, prompts, demos, adapters and scores, as a unified diff.

    Reads no data and runs no user code. The exit status is 0 whether they differ or not.

    \b
    lmprog diff program.yaml program.tuned.yaml
    """
    from lmprog.compiler import SpecError, compile_file
    from lmprog.compiler.artefacts.difference import difference

    plans = []
    for spec in (old, new):
        found = compile_file(spec, overrides=overrides, lms=lms, imports=False, data=False)
        if found.plan is None:
            raise SpecError(found.findings)
        plans.append(found.plan)
    text = difference(*plans)
    click.echo(text, nl=False)
    if not text:
        click.echo(f"{old} and {new} are equal in models, prompts, demos, adapters and scores", err=True)
