"""Paths of files in the form in which services that read a repository want them: from its root, whatever the working folder."""

from __future__ import annotations

import os
from pathlib import Path

from lmprog.compiler.yaml.files import root_of


def from_root(file: str) -> str:
    """Return the path of a file from the root of its git checkout, with `/` between the parts; as it is given, also
    with `/`, where the file is in none. The file need not exist."""
    whole = Path(os.path.abspath(file))
    root = root_of(whole)
    if not (root / ".git").exists():
        return Path(file).as_posix()
    found = whole.parent.resolve() / whole.name
    return found.relative_to(root).as_posix() if found.is_relative_to(root) else Path(file).as_posix()
