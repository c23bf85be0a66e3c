"""Files that are whole or not there, and files that only their owner may read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

OWNER_FILE, OWNER_FOLDER = 0o600, 0o700


def write_whole(path: Path, text: str, *, private: bool = False) -> None:
    """Write `text` beside `path`, then rename it into place; folders on the way are made.

    A `private` file can be read by its owner alone, and so can the folder where this makes it.
    """
    make_private(path.parent) if private else path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with open_private(beside, "w", encoding="utf-8") if private else beside.open("w", encoding="utf-8") as file:
        file.write(text)
    os.replace(beside, path)


def open_private(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file for writing that nobody but its owner may read, whatever it was before."""
    file = open(path, mode, opener=lambda name, flags: os.open(name, flags, OWNER_FILE), **options)  # noqa: SIM115
    if path.is_file():  # no device or pipe
        os.chmod(path, OWNER_FILE)
    return file


def make_private(folder: Path) -> None:
    """Make a folder that nobody but its owner may enter; one that is there stays as it is."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(OWNER_FOLDER, exist_ok=True)


def close_to_others(folder: Path) -> None:
    """Let nobody but the owner read what other libraries wrote into a folder."""
    folder.chmod(OWNER_FOLDER)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(OWNER_FOLDER if path.is_dir() else OWNER_FILE)
