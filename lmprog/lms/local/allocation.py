"""Memory that the process keeps between passes: what a pass has freed, for the next one, and the kernels of oneDNN.

The C library returns freed memory to the system as soon as a few megabytes are free at the end of its heap. A wave frees and
takes tens of megabytes at each layer; every page of them comes back by a fault of its own, and filled with zeros. Of a wave
of 64 replies that was a fifth of the processor's time.

oneDNN makes a kernel for each shape of a product and keeps the last 1,024. Each pass of training has another number of rows,
so that 40 steps of the quickstart filled 800 MB with kernels that none of them used again; to make one takes half a
millisecond.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

KEPT = 512 << 20
"""Bytes of free memory at the end of a heap that stay in the process, at most."""
LARGEST = 32 << 20
"""Bytes above which memory is mapped apart and returned when it is freed; glibc takes no larger number."""
KERNELS = 256
"""Kernels of oneDNN that are kept: those of some twenty numbers of rows."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> bool:
    """Keep up to KEPT bytes (512 MiB) of freed memory in this process from now on; return whether it could be set.

    Nothing happens where the environment sets it, or the C library is not glibc.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OWN_SETTINGS):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, LARGEST) and library.mallopt(_TRIM_THRESHOLD, KEPT))


def keep_few_kernels() -> None:
    """Have oneDNN keep KERNELS (256) kernels in this process, unless the environment names a number.

    It is to be called before the first product: oneDNN reads the environment once.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
