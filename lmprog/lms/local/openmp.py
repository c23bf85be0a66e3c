"""Pools of OpenMP threads, of which one Python thread at a time should own one.

GNU OpenMP gives each thread that computes a pool of its own. While all pools together have more threads than the machine has
processors, threads that are done with their share of a product sleep rather than spin for the next one, and to wake them takes
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
    """End the pool of OpenMP threads of the calling thread; OpenMP makes a new one when this thread next computes.

    Nothing happens where torch computes with another library than GNU OpenMP.
    """
    for library in libraries():
        library.omp_pause_resource_all(SOFT)


@cache
def libraries() -> list[Any]:
    """Return the GNU OpenMP libraries that this process has loaded, as ctypes objects; empty where /proc cannot be read."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[-1] for line in lines if "libgomp" in line.rpartition("/")[-1]}
    loaded = (ctypes.CDLL(path) for path in sorted(paths))
    return [library for library in loaded if hasattr(library, "omp_pause_resource_all")]
