"""`lmprog schema`."""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """Print the JSON schema of the language, for editors and CI.

    \b
    lmprog schema > program-1.json
    # and as the first line of a program:  # yaml-language-server: $schema=program-1.json
    """
    from lmprog.compiler.schema.language import schema_text

    click.echo(schema_text(), nl=False)
