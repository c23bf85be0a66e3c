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
"""The name of the file beside a spec whose variables are set."""


def with_environment(command: F) -> F:
    """Decorate a command with `--env-file`: before the command begins, the variables of these files, else of each `.env` beside
    its specs, are set in the environment of the process. With `--no-import` no file is read.

    The decorator reads the command's parameters `spec` or `specs` and `no_import`, so it stands right above the command.
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
    """Return the `.env` files in the folders of the specs, each once and only those that exist."""
    return list(dict.fromkeys(spec.parent / NAME for spec in specs if (spec.parent / NAME).is_file()))


def take(files: Sequence[Path]) -> None:
    """Set the variables of environment files in `os.environ`, but for those that are set already, also by a file before, and
    name all of them, without values, on standard error. The values that were set count as secrets from here on. Raises the
    errors of `read`.
    """
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
    """Return the variables in an environment file by name, without those that have no value (no `=`). `${NAME}` in a value is
    replaced by that variable of the lines before, else of the environment, else by nothing. Raises UsageError where the file
    is not UTF-8, or with its line where one is no variable, and OSError where it cannot be opened.
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
