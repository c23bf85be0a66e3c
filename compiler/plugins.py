"""Plugins: records that other packages register under an entry-point group.

Reading the entry points of an environment takes as long as a whole check, so callers look among the built-in names first, and
each group is read once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from lmprog.compiler.errors import Handled
from lmprog.compiler.standard_output import sent_to_stderr

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class PluginFailed(Handled):
    """The error for another package's record that cannot be imported, or that is of the wrong type."""


@cache
def points(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group (such as `lmprog.lms`) of all installed packages, by name. The environment is
    searched at the first call for a group, and none is imported."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=group)}


def names(group: str) -> Iterable[str]:
    """Return the names that other packages register in a group, sorted; no package is imported."""
    return sorted(points(group))


def plugin(group: str, name: str, kind: type[T], key: str) -> T | None:
    """Return the record of type `kind` that another package registers as `name` in an entry-point group; None where
    none does. Each import is tried once a process.

    `key` is the attribute of the record that must equal `name`. Raises PluginFailed where the record cannot be used.
    """
    if name not in points(group):
        return None
    found = _loaded(group, name)
    point = points(group)[name]
    where = f"{point.value}, which {_package(point)} registers as {name!r} in {group},"
    if isinstance(found, PluginFailed):
        raise PluginFailed(f"{where} cannot be imported: {found}")
    if not isinstance(found, kind):
        raise PluginFailed(f"{where} must be a {kind.__name__}, and is of type {type(found).__name__}")
    if getattr(found, key) != name:
        raise PluginFailed(f"{where} has the {key} {getattr(found, key)!r}; both must be the same")
    return found


def usable(group: str, kind: type[Any], key: str) -> Iterable[str]:
    """Yield the names in a group, sorted, whose records can be imported and are of the type `kind`; a record that
    cannot be used is passed over. `key` is the attribute of a record that must equal its name."""
    for name in names(group):
        with contextlib.suppress(PluginFailed):
            plugin(group, name, kind, key)
            yield name


def package_of(group: str, name: str) -> str | None:
    """Return the name and version of the package that registers a name in the entry-point group `group`, `a package` where
    they are unknown; None where no package registers it."""
    return _package(points(group)[name]) if name in points(group) else None


def function_of(make: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that `make` names: `make` itself, or what is imported from `package.module:name`; an import that
    fails raises as Python does."""
    if not isinstance(make, str):
        return make
    module, _, name = make.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


@cache
def _loaded(group: str, name: str) -> Any:
    """Return the object of an entry point, or the failure to import it: each import is tried once."""
    try:
        # What a package prints while it is imported must not get into a document on standard output.
        with sent_to_stderr():
            return points(group)[name].load()
    except (Exception, SystemExit) as error:
        return PluginFailed(f"{type(error).__name__}: {error}")


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "a package"
