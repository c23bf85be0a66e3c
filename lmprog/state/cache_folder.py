"""The cache folder of the user, for files that are costly to fetch or to make."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the cache folder: `LMPROG_CACHE`, else `$XDG_CACHE_HOME/lmprog`, else `~/.cache/lmprog`. A variable that
    is empty counts as not set, and the folder need not exist."""
    if given := os.environ.get("LMPROG_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmprog"
