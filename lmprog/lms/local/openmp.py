"""The threads that torch multiplies with, of which one thread of Python at a time should have any.

GNU OpenMP gives each thread that computes a pool of its own. While all pools together have more threads than the machine has
processors, those that are done with their share of a product sleep rather than spin for the next one, and to wake them takes
as long as a small product does: decoding in a thread beside one that has trained takes 1.7 times as long.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

SOFT = 1
"""omp_pause_soft: what has been set of OpenMP stays as it is."""


def release_threads() -> None:
    """End the pool of the calling thread; OpenMP makes it anew when the thread next computes.

    Nothing happens where torch computes with another library than GNU OpenMP.
    """
    for library in libraries():
        library.omp_pause_resource_all(SOFT)


@cache
def libraries() -> list[Any]:
    """Return every GNU OpenMP that this process has loaded: torch brings its own, in a file that may have any name."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[-1] for line in lines if "libgomp" in line.rpartition("/")[-1]}
    loaded = (ctypes.CDLL(path) for path in sorted(paths))
    return [library for library in loaded if hasattr(library, "omp_pause_resource_all")]
