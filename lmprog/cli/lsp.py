"""`lmprog lsp`."""

from __future__ import annotations

import os
import sys

import click

from lmprog.cli.options import NO_IMPORT


@click.command()
@NO_IMPORT
def command(no_import: bool) -> None:
    """Serve an editor over standard input and output, in the language server protocol.

    \b
    Editors start it themselves: docs/editors.md says how in VS Code, Neovim, Helix, JetBrains and others.
    It needs the extra 'lsp': pip install 'lmprog[lsp]'
    """
    from lmprog.extras import needed_by

    with needed_by("lmprog lsp"):
        from lmprog.lsp.server import made
    if sys.stdin.isatty():
        click.echo("lmprog lsp speaks the language server protocol: an editor starts it (docs/editors.md)", err=True)
    # What code of a program prints must not get between the messages: the protocol keeps the way out for itself.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    made(imports=not no_import).start_io(sys.stdin.buffer, out)
