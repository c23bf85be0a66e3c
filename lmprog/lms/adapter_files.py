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
    """Return an adapter's folder on this machine, which need not exist; an adapter on the hub (`hf://...`) is
    downloaded first. Raises UsageError for a reference to the hub that is none or, as MissingExtra, without
    huggingface_hub, and InfrastructureError where the download fails.
    """
    if isinstance(adapter.path, Path):
        return adapter.path
    return downloaded(reference_of(adapter.path, "the adapter"), ("adapter_*",), "the adapter")


def sha256_of(adapter: Path) -> str:
    """Return the digest by which an overlay names the adapter in the folder `adapter`: the SHA-256 (hexadecimal) of its
    weights file. Raises OSError where that cannot be read.
    """
    with (adapter / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_folder(adapter: AdapterReference) -> tuple[Path, str]:
    """Return an adapter's folder and the SHA-256 of its weights. Raises UsageError where its weights or settings are
    missing, or the weights have another digest than the spec says, and the errors of `adapter_folder`.
    """
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
    """Return the adapter's settings (JSON) for another machine: the base model is named `base`, not by its path on this
    one. Raises UsageError where the settings are no JSON object.
    """
    try:
        settings = json.loads((folder / CONFIG).read_bytes())
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise UsageError(f"{folder / CONFIG} is no JSON object; restore the folder, or run `lmprog optimize` again")
    return (json.dumps({**settings, "base_model_name_or_path": base}, indent=2) + "\n").encode()
