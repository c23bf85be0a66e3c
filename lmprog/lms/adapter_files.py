"""The files of a LoRA adapter in peft's format, on this machine. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lmprog.compiler.plan import AdapterReference
from lmprog.errors import UsageError
from lmprog.lms.hub import downloaded, reference_of

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def adapter_folder(adapter: AdapterReference) -> Path:
    """Return an adapter's folder on this machine; an adapter on the hub (`hf://...`) is downloaded first. Raises
    UsageError for a reference to the hub that is none, and InfrastructureError where the download fails."""
    if isinstance(adapter.path, Path):
        return adapter.path
    return downloaded(reference_of(adapter.path, "the adapter"), ("adapter_*",), "the adapter")


def sha256_of(adapter: Path) -> str:
    """Return the digest by which an overlay names an adapter: the SHA-256 of its weights file."""
    with (adapter / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_folder(adapter: AdapterReference) -> tuple[Path, str]:
    """Return an adapter's folder and the SHA-256 of its weights. Raises UsageError where the weights are missing, or
    have another digest than the spec says, and InfrastructureError where an adapter on the hub cannot be downloaded."""
    folder = adapter_folder(adapter)
    lacking = next((name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()), None)
    if lacking is not None:
        raise UsageError(f"there is no adapter in {folder}: it holds no {lacking}; name what `lmprog optimize` wrote")
    found = sha256_of(folder)
    if adapter.sha256 is not None and adapter.sha256.removeprefix("sha256:") != found:
        raise UsageError(
            f"the adapter in {folder} is not the one that the program names: its sha256 differs; restore the folder, or run "
            "`lmprog optimize` again"
        )
    return folder, found


def config_for(folder: Path, base: str) -> bytes:
    """Return the adapter's settings (JSON) for another machine: the base model is named `base`, not by its path on this one."""
    settings = json.loads((folder / CONFIG).read_text())
    return (json.dumps({**settings, "base_model_name_or_path": base}, indent=2) + "\n").encode()
