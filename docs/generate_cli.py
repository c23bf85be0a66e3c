"""Writes docs/cli.md: every verb with its `--help` as a terminal of 80 columns shows it. Run it after changing a verb.

    .venv/bin/python docs/generate_cli.py

`tests/functional/test_cli_page.py` fails while the page is not what this writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from lmprog.cli.main import lmprog

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 78
"""What click leaves for text on a terminal of 80 columns."""

INTRODUCTION = """\
# The command line

This page is written by `docs/generate_cli.py` from the program itself; a test keeps it up to date.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for name, text in _helps(lmprog, None, "lmprog"):
        parts.append(f"## {name}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def _helps(command: click.Command, parent: click.Context | None, name: str) -> Iterator[tuple[str, str]]:
    """The help of a command and, after it, of those inside it, each with its whole name."""
    settings = {**command.context_settings, "terminal_width": WIDTH}
    context = click.Context(command, parent=parent, info_name=name, **settings)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from _helps(found, context, inner)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
