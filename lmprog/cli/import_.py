"""`lmprog import`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lmprog.imports.program import Imported

OUT = click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; default: NAME.yaml beside what is imported.",
)
SOURCE = click.argument("path", type=click.Path(path_type=Path, exists=True))


@click.group()
def command() -> None:
    """Make a first lmprog program from the files of another tool.

    What cannot be carried over is left as a comment in the program and told on standard error. The prompts of both are
    rendered, on the file's sample or on made-up values, and compared message by message: where they differ, and what keeps
    the program from passing `lmprog check`, is said in the same way. No code of the flow is run, no file is overwritten,
    and no key is copied: keys come from environment variables.
    """


@command.command()
@SOURCE
@OUT
def promptflow(path: Path, out: Path | None) -> None:
    """Import a prompt flow DAG: PATH is its folder or its flow.dag.yaml.

    \b
    lmprog import promptflow flows/chat -o chat.yaml
    """
    from lmprog.imports import promptflow as format

    source = path / "flow.dag.yaml" if path.is_dir() else path
    _write(source, out, lambda folder: format.imported(source, folder))


@command.command()
@SOURCE
@OUT
def prompty(path: Path, out: Path | None) -> None:
    """Import a .prompty file, both of the first and of the second generation.

    \b
    lmprog import prompty greeting.prompty
    """
    from lmprog.imports import prompty as format

    _write(path, out, lambda folder: format.imported(path))


@command.command()
@SOURCE
@click.option(
    "--code",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The Python of a saved program: its types, tools and the way from one module to the next.",
)
@click.option("--class", "chosen", metavar="NAME", help="The module class to import, where the file has several.")
@OUT
def dspy(path: Path, code: Path | None, chosen: str | None, out: Path | None) -> None:
    """Import a DSPy program: PATH is a file of Python, or what program.save("FILE.json") wrote.

    Signatures become modules, and the statements of `forward` steps. What was tuned (instructions, demos, LM) is in the saved
    file, names and types of fields are in the code: with --code both are read. No code is run, and no pickle is read.

    \b
    lmprog import dspy rag.py
    lmprog import dspy rag.json --code rag.py -o rag.yaml
    """
    from lmprog.imports import dspy as format

    _write(path, out, lambda folder: format.imported(path, folder, code, chosen))


def _write(source: Path, out: Path | None, convert: Callable[[Path], Imported]) -> None:
    """Write the program that `convert` returns for a folder to the new file `out` (None: NAME.yaml beside `source`), with its
    notes and findings on the terminal, and exit with 1 where it has errors, else 0. No user code is run. Raises
    click.UsageError where the file exists.
    """
    from lmprog.imports.finished import finished
    from lmprog.reports import text

    made = convert((out or source).parent)
    target = out or source.with_name(f"{made.name}.yaml")
    if target.exists():
        raise click.UsageError(f"{target} exists already, so nothing was written; name another file with -o")
    done = finished(made, target)
    for note in done.notes:
        click.echo(f"{source}: {note.mark}: {note.text}", err=True)
    if done.findings:
        click.echo(text.render(done.findings).rstrip("\n"))
    click.echo(f"wrote {target}; next: lmprog check {target}", err=True)
    sys.exit(1 if any(finding.severity == "error" for finding in done.findings) else 0)
