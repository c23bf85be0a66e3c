"""Settings that Ray makes for the whole process, put back when lmprog has done with Ray."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

DEBUGGER = "PYTHONBREAKPOINT"


@contextmanager
def process_as_it_was() -> Iterator[None]:
    """Return a context at the end of which what Ray sets for the process is put back: the handler of SIGTERM (in the
    main thread), and the variable PYTHONBREAKPOINT, which names the debugger of `breakpoint()`."""
    debugger, handler = os.environ.get(DEBUGGER), signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        os.environ.pop(DEBUGGER, None)
        if debugger is not None:
            os.environ[DEBUGGER] = debugger
        # Only the main thread may set handlers, and Ray sets none in another.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
