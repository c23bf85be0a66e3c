"""`lmprog export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import SPEC, overriding


@click.command()
@SPEC
@overriding
@click.option(
    "--merged",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write weights with the adapters merged in; a new or empty folder.",
)
def command(spec: Path, lms: dict[str, str], overrides: dict[str, Any], folder: Path) -> None:
    """Write the tuned weights of SPEC as models of their own: each adapter merged into its model.

    \b
    lmprog export program.tuned.yaml --merged models/desk
    lmprog run program.yaml --lm student=hf/models/desk --input text=hello

    One adapter gives one model, in DIR itself; several give a folder in DIR each, named by the LM, or by the module for an
    adapter of its own. A folder holds weights (safetensors), tokenizer, and lmprog.json with the digests of what it was
    made of. Reads no data and runs no user code.
    """
    from lmprog.compiler import SpecError, compile_file
    from lmprog.lms.merging import write_merged

    found = compile_file(spec, overrides=overrides, lms=lms, imports=False, data=False)
    if found.plan is None:
        raise SpecError(found.findings)
    for merge, target in write_merged(found.plan, folder):
        use = f"the modules {', '.join(merge.modules)}" if len(merge.modules) > 1 else f"the module {merge.modules[0]}"
        click.echo(f"wrote {target}; for {use} write model: hf/{target}", err=True)
