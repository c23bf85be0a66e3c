"""Silence while transformers loads a model."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Return a context in which transformers shows no progress bars and no log lines below errors while it loads or writes
    a model.

    These settings are those of the whole process, so that one thread at a time is inside; they are put back at its end. The
    log lines and the stderr of everything else stay as they are.
    """
    from transformers.utils import logging as said

    with _one_at_a_time:
        level, bars = said.get_verbosity(), said.is_progress_bar_enabled()
        said.set_verbosity_error()
        said.disable_progress_bar()
        try:
            yield
        finally:
            said.set_verbosity(level)
            if bars:
                said.enable_progress_bar()
