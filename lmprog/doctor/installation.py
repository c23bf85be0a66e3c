"""Versions, extras, keys, processor, and the folders in which lmprog and its libraries keep files."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from lmprog.compiler.provider_keys import KEYS
from lmprog.doctor.line import Line
from lmprog.extras import BRINGS, is_installed, packages_of
from lmprog.state.cache_folder import cache_root
from lmprog.version import __version__

CORE = ("pydantic", "jinja2", "pyyaml", "aiohttp", "click", "rich", "jsonschema", "python-dotenv")
MEGABYTE = 1_000_000


def versions() -> Iterator[Line]:
    """Yield three lines with versions: lmprog, Python, and all packages of the core; `?` for one that is not installed."""
    yield Line("Installed", "lmprog", "ok", __version__)
    yield Line("Installed", "Python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield Line("Installed", "core", "ok", ", ".join(f"{name} {_version(name)}" for name in CORE))


_distributions = cache(packages_distributions)


def extras() -> Iterator[Line]:
    """Yield a line for each extra of lmprog: the versions of its packages, or as a note those that are missing, what the
    extra would bring, and the command to install it.
    """
    distributions = _distributions()
    for extra, use in BRINGS.items():
        packages = packages_of(extra)
        missing = [package for package in packages if not is_installed(package)]
        if missing:
            without = f"without {', '.join(missing)}: {use}"
            yield Line("Extras", extra, "note", without, f"pip install 'lmprog[{extra}]'")
            continue
        names = dict.fromkeys(distributions.get(package, [package])[0] for package in packages)
        yield Line("Extras", extra, "ok", f"{use} ({', '.join(f'{name} {_version(name)}' for name in names)})")


def keys() -> Iterator[Line]:
    """Yield a line for each provider whose key is set in the environment, with the variable's name and not its value, and
    one with the variables of all others.
    """
    unset = []
    for provider, names in KEYS.items():
        found = [name for name in names if os.environ.get(name, "").strip()]
        if found:
            yield Line("Keys", provider, "ok", f"{', '.join(found)} is set")
        else:
            unset.append(names[0])
    yield Line("Keys", "not set", "note", ", ".join(unset))


def folders() -> Iterator[Line]:
    """Yield a line for lmprog's cache folder and one for that of the Hugging Face hub: each with its size and its largest
    parts, or as a note that it is not there or cannot be read.
    """
    for name, folder in {"lmprog": cache_root(), "Hugging Face": _hub()}.items():
        try:
            parts = {part.name: _size(part) for part in sorted(folder.iterdir()) if part.is_dir()}
        except (FileNotFoundError, NotADirectoryError):
            yield Line("Files", name, "note", f"{folder} (not there yet)")
            continue
        except OSError as error:
            yield Line("Files", name, "note", f"{folder} cannot be read: {error.strerror}")
            continue
        largest = sorted(parts.items(), key=lambda item: -item[1])[:4]
        inside = ", ".join(f"{part} {_megabytes(size)}" for part, size in largest if size >= MEGABYTE)
        yield Line("Files", name, "ok", f"{folder}: {_megabytes(_size(folder))}" + (f" ({inside})" if inside else ""))


def machine() -> Iterator[Line]:
    """Yield lines on the processor, its instructions that matter for local models, the threads that this process may use,
    and the free memory where the system reports it.
    """
    text = _read(Path("/proc/cpuinfo"))
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "")
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    fast = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    yield Line(
        "Machine", "processor", "ok", f"{name or platform.machine()}" + (f" ({', '.join(fast)})" if fast else "")
    )
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    yield Line(
        "Machine", "threads", "ok", f"{usable}" + (f"; OMP_NUM_THREADS limits torch to {limit}" if limit else "")
    )
    memory = next((int(line.split()[1]) for line in _read(Path("/proc/meminfo")).splitlines() if "MemAvail" in line), 0)
    if memory:
        yield Line("Machine", "memory", "ok", f"{memory / 1e6:.1f} GB free")


def _hub() -> Path:
    """Return the folder of models and data sets of the Hugging Face hub: that of HF_HUB_CACHE or HF_HOME, else in the
    user's cache.
    """
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def cached_repository(name: str) -> bool:
    """Return whether a model repository of the Hugging Face hub, OWNER/NAME or OWNER/NAME@REVISION, is in the local cache
    (in that revision), maybe only a part of its files; False where the cache cannot be read.
    """
    repository, at, revision = name.partition("@")
    folder = _hub() / f"models--{repository.replace('/', '--')}"
    wanted = [folder / "refs" / revision, folder / "snapshots" / revision] if at else [folder]
    return any(map(os.path.exists, wanted))


def _size(folder: Path) -> int:
    """Return the bytes of the files in a folder; what cannot be read counts nothing, and links are not followed."""
    total = 0
    for above, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(above, name)).st_size
            except OSError:
                continue
    return total


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.0f} MB"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
