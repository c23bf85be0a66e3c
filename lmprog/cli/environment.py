"""Variables out of `.env` files, for the verbs that ask LMs: those of `--env-file`, else of a `.env` beside the spec."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
NAME = ".env"


def with_environment(command: F) -> F:
    """Decorate a command with `--env-file`: variables of these files, or of `.env` beside the spec, are set before it begins.

    It stands right above the command, whose parameters it reads. With `--no-import` no file is read.
    """

    @click.option(
        "--env-file",
        "env_files",
        multiple=True,
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Set the variables of this file, where they are not set yet; default: .env beside the program.",
    )
    @functools.wraps(command)
    def wrapped(*, env_files: tuple[Path, ...], **given: Any) -> Any:
        spec = given.get("specs") or given.get("spec")
        if not given.get("no_import"):
            specs = spec if isinstance(spec, tuple) else [spec] if spec is not None else []
            take(env_files or files_beside(specs))
        return command(**given)

    return wrapped  # type: ignore[return-value]


def files_beside(specs: Sequence[Path]) -> list[Path]:
    """Return the `.env` files in the folders of the specs, each once."""
    return list(dict.fromkeys(spec.parent / NAME for spec in specs if (spec.parent / NAME).is_file()))


def take(files: Sequence[Path]) -> None:
    """Set the variables of environment files that are not set yet, and name them, without values, on standard error.
    Raises UsageError for a file that is none."""
    for file in files:
        values = read(file)
        new = [name for name in values if name not in os.environ]
        kept = [name for name in values if name not in new]
        os.environ.update({name: values[name] for name in new})
        if new:
            from lmprog.boundary.secret_forms import FROM_FILES

            FROM_FILES.update(values[name] for name in new)
        said = f"taken from {file}: {', '.join(new) or 'nothing'}"
        click.echo(said + (f" ({', '.join(kept)} set already)" if kept else ""), err=True)


def read(file: Path) -> dict[str, str]:
    """Return the variables in an environment file, by name. Raises UsageError, which names the line, where it cannot be
    read as one.
    """
    from io import StringIO

    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    from lmprog.errors import UsageError

    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{file} is no UTF-8 text; save it as UTF-8") from None
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            # The line itself is not shown: it may hold a key.
            raise UsageError(f"{file}:{binding.original.line}: this line is no variable; write NAME=value")
    return {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}
