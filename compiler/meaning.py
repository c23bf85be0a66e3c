"""What a program means: the document without what does not change what it does, its digest, and the files that it names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Step
from lmprog.compiler.source import Mapping, Node, Scalar, Sequence

NO_MEANING = ("data", "metrics", "tests", "optimize", "tuned", "export", "extends", "description")
"""Keys that do not change what a program does, and are left out of its digest."""
LIKE_A_FILE = re.compile(r"[^\s${}]*(?:/|\.)[^\s${}]*")
"""A path: no blanks, no expression, and a slash or a dot in it."""
PYTHON = re.compile(r"[\w./~-]+\.py(?=:\w)")
"""The file in `./file.py:name`, also within a type such as `list[./types.py:Order]`."""
PROGRAMS = (".yaml", ".yml")
"""Endings of files that are programs; what those mean is in their own plans."""


def meaning_of(draft: Draft) -> dict[str, Any]:
    """Return the resolved document, without what does not change what the program does."""
    document = {key: value for key, value in draft.root.plain().items() if key not in NO_MEANING}
    document["vars"] = draft.vars
    document["lms"] = {
        id: {**entry, "model": draft.lms[id].model} for id, entry in document.get("lms", {}).items() if id in draft.lms
    }
    document["programs"] = sorted(_programs(draft.steps))
    return document


def digest(meaning: dict[str, Any]) -> str:
    """Return the sha256 of a document."""
    text = json.dumps(meaning, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def files_of(draft: Draft) -> dict[str, Path]:
    """Return the paths that the document may name, by the key that names each: tools and metrics in Python, corpora, schemas.

    Whether there is such a file is not looked up here: a word with a dot in it is one of them too.
    """
    found: dict[str, Path] = {}
    for key, node in draft.root.entries.items():
        if key == "metrics" or key not in NO_MEANING:
            for place, scalar in _scalars(node, key):
                value = scalar.value
                if isinstance(value, str) and len(value) < 500:
                    path = PYTHON.search(value) or LIKE_A_FILE.fullmatch(value)
                    if path is not None and not path.group().endswith(PROGRAMS):
                        found[place] = scalar.source.folder / path.group()
    return found


def _scalars(node: Node, place: str) -> Iterator[tuple[str, Scalar]]:
    if isinstance(node, Scalar):
        yield place, node
    elif isinstance(node, Mapping):
        for key, entry in node.entries.items():
            yield from _scalars(entry, f"{place}.{key}")
    elif isinstance(node, Sequence):
        for index, entry in enumerate(node.items):
            yield from _scalars(entry, f"{place}[{index}]")


def _programs(steps: tuple[Step, ...]) -> set[str]:
    found: set[str] = set()
    for step in steps:
        inner = getattr(step.action, "plan", None)
        if inner is not None:
            found.add(inner.digest)
        found |= _programs(getattr(step.action, "steps", ()))
    return found
