"""`lmprog graph`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import NO_IMPORT, SPEC, overriding


@click.command()
@SPEC
@overriding
@NO_IMPORT
def command(spec: Path, lms: dict[str, str], overrides: dict[str, Any], no_import: bool) -> None:
    """Print the steps of SPEC and what flows between them as a Mermaid graph."""
    from lmprog.compiler import SpecError, compile_file
    from lmprog.compiler.artefacts.mermaid import mermaid

    found = compile_file(spec, overrides=overrides, lms=lms, imports=not no_import, data=False, confined=no_import)
    if found.plan is None:
        raise SpecError(found.findings)
    click.echo(mermaid(found.plan))
