"""The programs in a folder: YAML files with the key `lmprog`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from lmprog.compiler.yaml.files import NotRead, read_text, root_of

MOST_FILES = 5000
"""Maximum number of YAML files that are looked at below one folder."""
ENDINGS = (".yaml", ".yml")
_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages"})
"""Folders that hold no programs of their user, beside those whose names begin with a dot."""
_KEY = re.compile(r"""^["']?lmprog["']?[ \t]*:""", re.MULTILINE)


def is_program(path: Path, imports: bool = True) -> bool:
    """Return whether a file has the key `lmprog` at the start of a line, so not for an overlay with `extends` alone; also
    True for a file that is absent or cannot be read as text, so that its check reports it.

    With `imports` False the file is not trusted: a link that leads out of the git checkout, or else the folder, that
    the file lies in is not read, and gives True.
    """
    try:
        return _KEY.search(read_text(path, None if imports else root_of(path))) is not None
    except NotRead:
        return True


def folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folder and all folders below it, from the top down, each with the names of its files in order; hidden
    folders, those of installed packages (`site-packages`, `node_modules`), links to folders, and what cannot be read are
    left out."""
    for around, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in _SKIPPED)
        yield Path(around), sorted(files)


def yaml_files(folder: Path) -> Iterator[Path]:
    """Yield the YAML files below a folder in the order of `folders`, the first MOST_FILES (5000) of them; where there are
    more, nothing says so. Hidden folders and installed packages are left out.
    """
    left = MOST_FILES
    for around, files in folders(folder):
        for name in files:
            if name.endswith(ENDINGS):
                left -= 1
                if left < 0:
                    return
                yield around / name
