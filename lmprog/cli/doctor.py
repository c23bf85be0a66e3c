"""`lmprog doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.environment import with_environment
from lmprog.cli.options import output_format, overriding

if TYPE_CHECKING:
    from lmprog.doctor.line import Line


@click.command()
@click.argument("spec", required=False, type=click.Path(path_type=Path))
@overriding
@click.option(
    "--reach",
    is_flag=True,
    help="Ask the servers of SPEC's models which models they have: a request that costs nothing. Without it nothing is asked.",
)
@click.option(
    "--engine", is_flag=True, help="Measure how fast the built-in model runs here: some seconds, with lmprog[local]."
)
@output_format("text", "json")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@with_environment
def command(
    spec: Path | None,
    lms: dict[str, str],
    overrides: dict[str, Any],
    reach: bool,
    engine: bool,
    style: str,
    as_json: bool,
) -> None:
    """Show what is installed here, which keys are set, and whether SPEC can run: each thing that is missing, with its fix.

    Shows versions, extras and what each would bring, names of keys (never their values), files that are kept between runs
    with their sizes, and the processor. Of SPEC: its models, tools and stages. The exit status is 1 where SPEC cannot run
    here, else 0.

    \b
    lmprog doctor
    lmprog doctor program.yaml --reach
    lmprog doctor --engine
    """
    from lmprog.doctor.line import document, text

    if reach and spec is None:
        raise click.UsageError("--reach asks the servers of a program's models; name the program")
    lines = _lines(spec, lms, overrides, reach, engine)
    if style == "json" or as_json:
        import json

        click.echo(json.dumps(document(lines), indent=2))
    else:
        click.echo(text(lines), nl=False)
    sys.exit(1 if any(line.status == "problem" for line in lines) else 0)


def _lines(spec: Path | None, lms: dict[str, str], overrides: dict[str, Any], reach: bool, engine: bool) -> list[Line]:
    """Return the lines on the installation and, with `spec` (None: none), on what that program needs. With `engine` the
    built-in model is measured, with `reach` the servers of the program's models are asked.
    """
    from lmprog.doctor import installation

    lines = [
        *installation.versions(),
        *installation.extras(),
        *installation.keys(),
        *installation.folders(),
        *installation.machine(),
    ]
    if engine:
        from lmprog.doctor.engine import speed

        lines.append(speed())
    if spec is None:
        return lines
    from lmprog.doctor import program

    plan, checked = program.compiled(spec, lms, overrides)
    lines.append(checked)
    if plan is None:
        return lines
    lines += program.needs(plan)
    if reach:
        from lmprog.aio.loops import run_async
        from lmprog.doctor.reach import reached

        models = {(lm.id, lm.model): lm for part in program.parts(plan) for lm in part.lms.values()}
        lines += run_async(lambda: reached(models.values()))
    return lines
