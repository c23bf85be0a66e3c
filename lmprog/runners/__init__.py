"""Places where runs are made, by the name that `--on` gives: `here`, `ray`, and those of other packages.

A place of another package is an entry point of the group `lmprog.runners`.
"""

from __future__ import annotations

from lmprog.runners.choosing import opened

__all__ = ["opened"]
