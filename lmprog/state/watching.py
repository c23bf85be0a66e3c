"""Files that are watched for changes, by asking for their state: it works on every file system and needs no package."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from lmprog.compiler import Compilation, Plan
from lmprog.compiler.yaml.files import State, state_of
from lmprog.state.identity import files_of

EVERY = 0.2
"""Seconds between two looks at the files."""


def changes(
    files: Callable[[], Mapping[Path, State]], stopped: threading.Event, every: float = EVERY
) -> Iterator[frozenset[Path]]:
    """Yield the files that have changed, appeared or gone since the last set, as soon as a look finds no further change;
    the thread sleeps between the looks, and the iteration ends when `stopped` is set.

    `files` is called before each look, every `every` seconds, and returns each file to watch with its state when the caller
    last read it; so the files may be others after a change, and a change while the caller is at work is seen at the next
    look.
    """
    before = dict(files())
    changed: set[Path] = set()
    while not stopped.wait(every):
        read = files()
        now = {path: state_of(path) for path in read}
        moved = {path for path, state in now.items() if before.get(path, read[path]) != state}
        before = {**before, **now}
        changed |= moved
        if changed and not moved:
            yield frozenset(changed)
            changed = set()


def files_to_watch(spec: Path, compiled: Compilation, imports: bool = True) -> frozenset[Path]:
    """Return the files whose change means that the program at `spec` is compiled again: those read by its compilation
    `compiled`, and its data, Python, corpora and schemas. Where it has errors, they are the files read and their folders,
    since a file that is missing changes the state of its folder when it appears.

    Without `imports`, for a program that is not trusted, the files are found without importing anything.
    """
    read = {spec.resolve(), *compiled.read}
    return frozenset(read | (_files_behind(compiled.plan, imports) if compiled.plan is not None else _folders(read)))


def _files_behind(plan: Plan, imports: bool) -> set[Path]:
    """Return the files that a program is made of, beside the specs: data, Python, corpora, schemas, and other paths that it
    names. Without `imports` Python files that others import are left out."""
    found = {path for id in (None, *plan.metrics) for path in files_of(plan, id)} if imports else {*plan.files.values()}
    found |= {split.path for split in plan.data.values() if split.path is not None}
    return {path.resolve() for path in found}


def _folders(files: Iterable[Path]) -> set[Path]:
    """Return the folders of files, and the folders in these, but for those whose names begin with `.` or `__`."""
    found = {path.parent for path in files}
    for folder in list(found):
        with contextlib.suppress(OSError):
            found |= {inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith((".", "__"))}
    return found
