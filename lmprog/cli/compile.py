"""`lmprog compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import NO_IMPORT, SPEC, overriding


@click.command()
@SPEC
@overriding
@NO_IMPORT
@click.option("-o", "--out", default="target", show_default=True, type=click.Path(path_type=Path), help="The folder.")
def command(spec: Path, lms: dict[str, str], overrides: dict[str, Any], no_import: bool, out: Path) -> None:
    """Check SPEC and write what it compiles to: manifest.json, the prompts as they will be sent, and graph.mmd."""
    from lmprog.compiler import SpecError, compile_file
    from lmprog.compiler.artefacts.manifest import write_artefacts

    found = compile_file(spec, overrides=overrides, lms=lms, imports=not no_import, confined=no_import)
    if found.plan is None:
        raise SpecError(found.findings)
    for path in write_artefacts(found.plan, out):
        click.echo(path)
