"""The choice of the place where runs are made, as `--on NAME:ADDRESS` writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmprog.compiler.plugins import PluginFailed, function_of, names, plugin
from lmprog.errors import UsageError
from lmprog.runtime.runner import HERE, Runner

GROUP = "lmprog.runners"


@dataclass(frozen=True)
class Place:
    """A kind of place where runs are made, as a Ray cluster: its `name`, which begins `--on NAME:ADDRESS`, and `open`.

    `open` is a function, or its place as `package.module:name`, of the address (None: none), the number of workers
    (None: as many as fit) and the program's folder. It returns a context manager of the Runner, which the caller enters
    and leaves.
    """

    name: str
    open: str | Callable[[str | None, int | None, Path], Any]
    """Function to a context manager of a `Runner`, or its place as `package.module:name`. Its arguments are the address (None
    where `--on` has none), the number of workers (None: as many as there is room for) and the folder of the program.
    """


BUILT_IN = {"ray": Place("ray", "lmprog.runners.ray_cluster:on_ray")}


@contextmanager
def opened(on: str | None, workers: int | None, folder: Path) -> Iterator[Runner]:
    """Open the place that `on` names (None and `here`: this process) for programs in `folder`; yield its runner, and
    close it at the end.

    `on` is a name, or NAME:ADDRESS. `workers` is the number of worker processes (None: as many as fit). Raises
    UsageError for an unknown name, fewer workers than 1, or an option that the place does not take (`here` takes no
    workers), and the errors of opening the place.
    """
    name, _, address = (on or "here").partition(":")
    if name == "here":
        if address or workers is not None:
            raise UsageError("workers need a place: name it as --on ray or --on ray:ADDRESS")
        yield HERE
        return
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers make no runs; name at least 1")
    try:
        found = BUILT_IN.get(name) or plugin(GROUP, name, Place, "name")
    except PluginFailed as error:
        raise UsageError(str(error)) from error
    if found is None:
        known = ", ".join(["here", *BUILT_IN, *names(GROUP)])
        raise UsageError(f"runs cannot be made on {name!r}; it is one of {known}, as --on ray:ADDRESS")
    with function_of(found.open)(address or None, workers, folder) as runner:
        yield runner
