"""Names by content: of a request with the weights that answer it, and of the arguments of a tool."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmprog.compiler.plan import AdapterReference
from lmprog.lms.lm import ToolOffer


def weights_of(model: str, adapter: AdapterReference | None) -> str:
    """The model, and the digest of the adapter on it."""
    return f"{model}+{adapter.sha256 or adapter.path}" if adapter else model


def request_sha256(
    weights: str,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    seed: int | None,
    tools: Sequence[ToolOffer] = (),
) -> str:
    """The digest of all that a reply depends on, but for where the model is served."""
    return digest([weights, list(messages), params, seed, [asdict(tool) for tool in tools]])


def digest(value: Any) -> str:
    """sha256 of a value as JSON; mappings with equal entries are equal, whatever their order."""
    written = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(written.encode(errors="surrogatepass")).hexdigest()


def folder_state(folder: Path) -> str:
    """Return a digest of the names, sizes and times of the files in a folder of weights, which are too large to read."""
    found = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
    return digest([(name, stat.st_size, stat.st_mtime_ns) for name, stat in found])
