"""Memory that a pass has freed, kept in the process for the next one.

The C library returns freed memory to the system as soon as a few megabytes are free at the end of its heap. A wave frees and
takes tens of megabytes at each layer; every page of them comes back by a fault of its own, and filled with zeros. Of a wave
of 64 replies that was a fifth of the processor's time.
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
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> bool:
    """Keep up to KEPT bytes of freed memory in this process from now on; return whether it could be set.

    Nothing happens where the environment sets it, or the C library is not glibc.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OWN_SETTINGS):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, LARGEST) and library.mallopt(_TRIM_THRESHOLD, KEPT))
