"""`lmprog init`."""

from __future__ import annotations

from pathlib import Path

import click

from lmprog.compiler.yaml.whole_file import write_whole

FILES = {
    "desk.yaml": "desk.yaml",
    "topics.txt": "topics.txt",
    "metrics.py": "metrics.py",
    "data/train.jsonl": "data/train.jsonl",
    "data/dev.jsonl": "data/dev.jsonl",
    "data/test.jsonl": "data/test.jsonl",
    ".gitignore": "gitignore",
    ".github/workflows/lmprog.yml": "workflow.yml",
}
"""The files to write: path in the new folder -> path in `lmprog/starter`."""


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path, file_okay=False))
def command(folder: Path) -> None:
    """Write a small working program into DIR: its data, a metric, a test, and a workflow that checks it.

    DIR is the current folder where it is left out. Nothing that exists is overwritten.

    \b
    lmprog init desk
    """
    from importlib.resources import files

    taken = [name for name in FILES if (folder / name).exists() or (folder / name).is_symlink()]
    if taken:
        there = ", ".join(str(folder / name) for name in taken)
        verb = "exists" if len(taken) == 1 else "exist"
        raise click.UsageError(f"{there} {verb} already, so nothing was written; name a new folder: lmprog init DIR")
    starter = files("lmprog") / "starter"
    for name, template in FILES.items():
        path = folder / name
        write_whole(path, starter.joinpath(template).read_bytes(), new=True)
        click.echo(f"wrote {path}", err=True)
    click.echo(_next(folder))


def _next(folder: Path) -> str:
    """Return the commands to try next with the files that were written."""
    spec = folder / "desk.yaml"
    lines = [
        "Next:",
        f"  lmprog check {spec}",
        f"  lmprog run {spec} --fake --input message='Are you open on Sunday?'     # no model is asked",
        f"  lmprog run {spec} --input message='Are you open on Sunday?'            # needs lmprog[local], or a key",
        f"  lmprog test {spec}                                                     # its tests; --record, --replay for CI",
        f"  lmprog optimize {spec} --dry-run                                       # what tuning it would cost",
    ]
    above = next((parent for parent in folder.resolve().parents if (parent / ".git").exists()), None)
    if above is not None and not (folder / ".git").exists():
        workflow = folder / ".github/workflows/lmprog.yml"
        lines.append(
            f"GitHub reads workflows at the top of a repository: move {workflow} to {above}, and mend its paths."
        )
    return "\n".join(lines)
