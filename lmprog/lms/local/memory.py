"""The memory of a model in this process, by what holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lmprog.lms.local.packed import packed_bytes

if TYPE_CHECKING:
    from lmprog.lms.local import LocalLM

MEGABYTE = 1_000_000
_LINES = {"VmRSS:": "now", "VmHWM:": "peak"}


def memory_of(lms: Iterable[LocalLM]) -> Mapping[str, float]:
    """Return megabytes (of 1,000,000 bytes): of this process `now` and at its `peak`, and of its local models, each
    counted once, by what holds them.

    `weights` are those of the models and of adapters in training, `packed` the copies in the memory order that the
    processor's kernels want, `heads` the keys and values of shared prompt beginnings. The rest of the process is memory
    that passes used and that is kept for the next one, torch, and Python. `now` and `peak` are left out where the
    system does not report them.
    """
    distinct = {id(lm.weights): lm for lm in lms}.values()
    held = {
        "weights": sum(lm.weights.held_bytes for lm in distinct),
        "packed": packed_bytes(),
        "heads": sum(lm.head_bytes for lm in distinct),
    }
    return {**_of_process(), **{name: round(size / MEGABYTE, 1) for name, size in held.items()}}


def _of_process() -> dict[str, float]:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {_LINES[found[0]]: round(int(found[1]) * 1024 / MEGABYTE, 1) for found in fields if found[0] in _LINES}
