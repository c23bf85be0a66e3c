"""`lmprog check --watch`: the same check again, whenever a file that it looked at changes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import click

from lmprog.compiler.types.python_reference import forget
from lmprog.compiler.yaml.files import State, reading, state_of
from lmprog.compiler.yaml.program_files import folders
from lmprog.state.python_sources import sources
from lmprog.state.watching import changes


def watch(check: Callable[[], str], named: Sequence[Path]) -> NoReturn:
    """Check now, and again at each change of a file that the last check has looked at, until KeyboardInterrupt (Ctrl-C) or an
    error that `check` raises. Python files that changed, and those that import them, are imported anew.

    `check` prints the findings and returns the line below them, which is printed on standard error with the time. `named`
    are the files and folders of the command line: a program that appears in such a folder makes a check too.
    """
    seen: dict[Path, State] = {}

    def look() -> None:
        nonlocal seen
        if sys.stdout.isatty():
            click.clear()
        began = time.monotonic()
        before = {path: state_of(path) for path in _folders(named)}
        with reading() as looked_at:
            said = check()
        click.echo(f"{said} ({time.monotonic() - began:.2f} s); watching {len(looked_at)} files", err=True)
        # What Python files import changes what they are.
        parts = {part for file in looked_at if file.suffix == ".py" for part in sources(file)}
        others = {part: seen[part] if part in seen else state_of(part) for part in parts}
        seen = {**others, **before, **looked_at}

    look()
    for changed in changes(lambda: seen, threading.Event()):
        # A Python file that is imported by a changed one is imported again with it.
        forget(changed | {path for path in seen if path.suffix == ".py" and not changed.isdisjoint(sources(path))})
        look()
    raise AssertionError("the watch goes on until it is interrupted")


def _folders(named: Iterable[Path]) -> Iterable[Path]:
    """Yield the folders of `named` with all folders below them, in which a program may appear: their times change then."""
    for path in named:
        if path.is_dir():
            yield from (folder for folder, _ in folders(path))
