"""Changes of a program as overlays: their interface, and how a later one is merged into an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Change(Protocol):
    """A set of changes to a program that an optimizer proposes: the interface of `lmprog.optimizers.Candidate`."""

    def as_overlay(self) -> Mapping[str, Any]:
        """Return the changes as the plain values of an overlay file: by section of a spec and id, the changed keys
        alone; empty where nothing changes."""


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two overlays merged into one: mappings are merged key by key, any other value of `above`, also a list or
    None, replaces that of `below`. Neither is changed."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[key] = laid_over(under, value) if both else value  # type: ignore[arg-type]
    return merged
