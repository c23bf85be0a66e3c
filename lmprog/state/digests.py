"""Digests of values and of folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """Return the SHA-256, in hexadecimal, of a value written as JSON, each part that JSON has no form for as its `str`;
    the order of a mapping's entries does not matter, and the keys 1 and "1" are the same.

    Raises TypeError for a key that is no text, number, bool or None and for keys of one mapping that have no order, and
    ValueError for a value that holds itself.
    """
    written = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(written.encode(errors="surrogatepass")).hexdigest()


def folder_state(folder: Path) -> str:
    """Return a digest (SHA-256 in hexadecimal) of the names, sizes and modification times of the files in a folder, without
    those of folders in it, for weights too large to read. Raises OSError where there is no such folder."""
    found = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
    return digest([(name, stat.st_size, stat.st_mtime_ns) for name, stat in found])
