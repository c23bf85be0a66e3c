"""Standard output while code that is not ours is imported."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

_lock = threading.Lock()
_inside = 0
_before: TextIO


@contextlib.contextmanager
def sent_to_stderr() -> Iterator[None]:
    """Send what Python code prints to `sys.stdout` to stderr, so that it does not get into a document on standard
    output; what other programs write to the file descriptor is not redirected.

    Several threads may be inside at once: the last one that leaves puts standard output back. `contextlib.redirect_stdout`
    puts back what its own thread found, which is stderr where two threads overlap.
    """
    global _inside, _before
    with _lock:
        _inside += 1
        if _inside == 1:
            _before, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                sys.stdout = _before
