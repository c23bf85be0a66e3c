"""The meaning of a program: the document without keys that do not change its effect, its digest, and its files."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Step
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence

NO_MEANING = ("data", "metrics", "tests", "optimize", "tuned", "export", "extends", "description")
"""Keys that do not change what a program does, and are left out of its digest."""
LIKE_A_FILE = re.compile(r"[^\s${}]*(?:/|\.)[^\s${}]*")
"""A path: no blanks, no expression, and a slash or a dot in it."""
PYTHON = re.compile(r"[\w./~-]+\.py(?=:\w)")
"""The file in `./file.py:name`, also within a type such as `list[./types.py:Order]`."""
PROGRAMS = (".yaml", ".yml")
"""Endings of files that are programs; what those mean is in their own plans."""


def meaning_of(draft: Draft) -> dict[str, Any]:
    """Return the spec as one dictionary of plain values by top-level key (`inputs`, `lms`, `modules`, ...), without the
    keys of NO_MEANING: `extends` is merged, `vars` have their values, also from files, and each LM has the model in use,
    that of `--lm` included. Other files are named and not read. `programs` is a sorted list of the digests of the
    sub-programs."""
    document = {key: value for key, value in draft.root.plain().items() if key not in NO_MEANING}
    document["vars"] = draft.vars
    document["lms"] = {
        id: {**entry, "model": draft.lms[id].model} for id, entry in document.get("lms", {}).items() if id in draft.lms
    }
    document["programs"] = sorted(_programs(draft.steps))
    return document


def digest(meaning: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of a document of plain values, which does not depend on the order of keys. Any other
    value counts as the text that `str` makes of it."""
    text = json.dumps(meaning, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def files_of(draft: Draft) -> dict[str, Path]:
    """Return the paths that a spec may name, by the path of the key that names each, as `tools.find.python`: Python
    files of tools and metrics, corpora, schemas, adapters, and (as `tools: NAME`) the lock files that were read.

    Programs and data are left out. The files may not exist: any word with a dot or slash in it is listed.
    """
    found: dict[str, Path] = {}
    for key, node in draft.root.entries.items():
        if key == "metrics" or key not in NO_MEANING:
            _add_files(node, (key,), found)
    for path in draft.locks:
        found[f"tools: {path.name}"] = path
    return found


def _add_files(node: Node, keys: tuple[str, ...], found: dict[str, Path]) -> None:
    """Add to `found` the paths that the node at the path `keys` may name, at any depth."""
    if isinstance(node, Mapping):
        for key, entry in node.entries.items():
            _add_files(entry, (*keys, f".{key}"), found)
    elif isinstance(node, Sequence):
        for index, entry in enumerate(node.items):
            _add_files(entry, (*keys, f"[{index}]"), found)
    elif isinstance(node, Scalar):
        value = node.value
        if isinstance(value, str) and ("." in value or "/" in value) and len(value) < 500:
            path = (PYTHON.search(value) if ".py:" in value else None) or LIKE_A_FILE.fullmatch(value)
            if path is not None and not path.group().endswith(PROGRAMS):
                found["".join(keys)] = node.source.folder / path.group()


def _programs(steps: tuple[Step, ...]) -> set[str]:
    """Return the digests of the sub-programs that steps, and the steps of loops, call."""
    found: set[str] = set()
    for step in steps:
        inner = getattr(step.action, "plan", None)
        if inner is not None:
            found.add(inner.digest)
        found |= _programs(getattr(step.action, "steps", ()))
    return found
