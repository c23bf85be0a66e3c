"""Destinations of traces: one record for each kind, of this package and of others.

A destination of another package is an entry point of the group `lmprog.exporters` whose name is its key below `export.traces`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.plugins import plugin, usable
from lmprog.compiler.shape import Anything, Others, Shape, Text

GROUP = "lmprog.exporters"


@dataclass(frozen=True)
class Destination:
    """The record of a kind of trace destination: its `key` in a spec, the `shape` of its options, and `make`, which
    takes them, a mapping by name, and returns the exporter: a function of one run's trace.
    """

    key: str
    make: str | Callable[..., Callable[[Any], None]]
    """Function from the options to a function of one run's trace (`RunTrace`), or its place as `package.module:name`."""
    shape: Shape
    """The shape of the options under the key."""


BUILT_IN = {
    destination.key: destination
    for destination in (
        Destination("file", "lmprog.traces.exports:FileExport", Text()),
        Destination("otlp", "lmprog.traces.collector:collector_of_spec", Anything()),
    )
}
"""The destinations of this package. `file` is what a text below `export.traces` means."""


def registered(key: str) -> Destination | None:
    """Return the record of a destination by its key; None where there is none.

    Raise PluginFailed where the record of another package cannot be used.
    """
    return BUILT_IN.get(key) or plugin(GROUP, key, Destination, "key")


def _shape(key: str) -> Shape | None:
    found = registered(key) if key not in BUILT_IN else None
    return found.shape if found is not None else None


OTHERS = Others(_shape, lambda: usable(GROUP, Destination, "key"))
"""The keys below `export.traces` that other packages add."""
