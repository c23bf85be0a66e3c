"""Optional packages by the extra of lmprog that installs them, and the error that names the extra where one is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from lmprog.errors import UsageError

EXTRA_OF = {
    **dict.fromkeys(
        (
            "torch",
            "transformers",
            "tokenizers",
            "peft",
            "gguf",
            "llguidance",
            "safetensors",
            "huggingface_hub",
            "numpy",
        ),
        "local",
    ),
    **dict.fromkeys(("trl", "accelerate", "datasets"), "train"),
    **dict.fromkeys(("litellm", "httpx", "openai"), "providers"),
    **dict.fromkeys(("optuna", "gepa"), "optimize"),
    "bm25s": "search",
    **dict.fromkeys(("starlette", "uvicorn", "h11"), "serve"),
    **dict.fromkeys(("mcp", "httpx2", "anyio"), "mcp"),
    "opentelemetry": "otel",
}
"""Package -> extra."""


class MissingExtra(UsageError):
    """The error for an optional package that is needed now and not installed; the message names the extra to install."""


def missing(error: ImportError, user: str) -> MissingExtra | None:
    """Return the error that names the extra which `user` needs; None where the missing module belongs to no extra."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA_OF:
        return None
    return _named(package, user)


def require(packages: Iterable[str], user: str) -> None:
    """Raise MissingExtra where one of `packages`, which `user` needs, is not installed. None of them is imported."""
    for package in packages:
        try:
            found = find_spec(package)
        except ImportError:
            found = None
        if found is None:
            raise _named(package, user)


def _named(package: str, user: str) -> MissingExtra:
    extra = EXTRA_OF[package]
    return MissingExtra(f"{user} needs the extra '{extra}' ({package} is missing): pip install 'lmprog[{extra}]'")


@contextmanager
def needed_by(user: str) -> Iterator[None]:
    """Turn an ImportError inside the block into MissingExtra, with the name of the extra that `user` needs."""
    try:
        yield
    except ImportError as error:
        found = missing(error, user)
        if found is None:
            raise
        raise found from None
