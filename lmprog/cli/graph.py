"""`lmprog graph`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import SPEC, overriding


@click.command()
@SPEC
@overriding
def command(spec: Path, lms: dict[str, str], overrides: dict[str, Any]) -> None:
    """Print the steps of SPEC and what flows between them as a Mermaid graph."""
    from lmprog.compiler import SpecError, compile_file
    from lmprog.compiler.mermaid import mermaid

    found = compile_file(spec, overrides=overrides, lms=lms, data=False)
    if found.plan is None:
        raise SpecError(found.findings)
    click.echo(mermaid(found.plan))
