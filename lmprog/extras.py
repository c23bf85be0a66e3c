"""Packages that lmprog can do without, by the extra that brings them; where one is missing, the message names the extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lmprog.errors import UsageError

EXTRA_OF = {
    **dict.fromkeys(
        (
            "torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets", "gguf", "llguidance",
            "safetensors", "huggingface_hub",
        ),
        "local",
    ),
    **dict.fromkeys(("starlette", "uvicorn"), "serve"),
    **dict.fromkeys(("mcp", "httpx2"), "mcp"),
    "opentelemetry": "otel",
}  # fmt: skip
"""Package -> extra."""


class MissingExtra(UsageError):
    """A package that only some uses need is not installed."""


def missing(error: ImportError, user: str) -> MissingExtra | None:
    """Return the error that says which extra `user` needs; None where the module that is missing is of no extra."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA_OF:
        return None
    extra = EXTRA_OF[package]
    return MissingExtra(f"{user} needs the extra '{extra}' ({package} is missing): pip install 'lmprog[{extra}]'")


@contextmanager
def needed_by(user: str) -> Iterator[None]:
    """Raise MissingExtra for an import inside the block that fails since an extra is not installed."""
    try:
        yield
    except ImportError as error:
        found = missing(error, user)
        if found is None:
            raise
        raise found from None
