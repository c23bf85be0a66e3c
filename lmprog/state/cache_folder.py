"""The cache folder of the user, for files that are costly to fetch or to make."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the cache folder: `LMPROG_CACHE`, else `$XDG_CACHE_HOME/lmprog`, else `~/.cache/lmprog`."""
    if "LMPROG_CACHE" in os.environ:
        return Path(os.environ["LMPROG_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmprog"
