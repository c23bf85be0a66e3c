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
            "fsspec",
            "numpy",
        ),
        "local",
    ),
    **dict.fromkeys(("trl", "accelerate", "datasets"), "train"),
    **dict.fromkeys(("litellm", "httpx", "openai"), "providers"),
    **dict.fromkeys(("optuna", "gepa"), "optimize"),
    "bm25s": "search",
    **dict.fromkeys(("starlette", "uvicorn", "h11", "prometheus_client"), "serve"),
    **dict.fromkeys(("mcp", "mcp_types", "httpx2", "anyio"), "mcp"),
    **dict.fromkeys(("pygls", "lsprotocol"), "lsp"),
    "opentelemetry": "otel",
    "ray": "ray",
    "bitsandbytes": "4bit",
    "mlflow": "mlflow",
    "wandb": "wandb",
}
"""Package -> extra."""

BRINGS = {
    "local": "models in this process: embedded/smollm2-135m, hf/...",
    "providers": "models of every provider that litellm knows",
    "search": "the search tool, and demos chosen for each call",
    "optimize": "the stages that search words: prompt_search, bootstrap, gepa",
    "train": "the stages that train weights: grpo, sft, fast_slow",
    "serve": "lmprog serve",
    "mcp": "tools of MCP servers",
    "lsp": "lmprog lsp: editors that know the language",
    "ray": "runs on the workers of a Ray cluster: --on ray",
    "4bit": "models in this process with their weights in 4 bits: load: 4bit",
    "otel": "traces to an OpenTelemetry collector",
    "mlflow": "reports of optimizations to MLflow: report_to",
    "wandb": "reports of optimizations to Weights & Biases: report_to",
}
"""Extra -> what it is for."""


def packages_of(extra: str) -> list[str]:
    """Return the packages that an extra brings, by the names under which they are imported; empty for an unknown extra."""
    return [package for package, of in EXTRA_OF.items() if of == extra]


def is_installed(package: str) -> bool:
    """Return whether a package can be imported; it is not imported."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


class MissingExtra(UsageError):
    """The error for an optional package that is needed now and not installed; the message names the extra to install."""


def missing(error: ImportError, user: str) -> MissingExtra | None:
    """Return the error that names the extra which `user` (words such as `lmprog lsp`) needs, for an ImportError; None where
    the missing module belongs to no extra.
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA_OF:
        return None
    return _named(package, user)


def require(packages: Iterable[str], user: str) -> None:
    """Raise MissingExtra where one of `packages` (of EXTRA_OF), which `user` needs, is not installed. None of them is
    imported.
    """
    for package in packages:
        if not is_installed(package):
            raise _named(package, user)


def _named(package: str, user: str) -> MissingExtra:
    extra = EXTRA_OF[package]
    return MissingExtra(f"{user} needs the extra '{extra}' ({package} is missing): pip install 'lmprog[{extra}]'")


@contextmanager
def needed_by(user: str) -> Iterator[None]:
    """Return a context that turns an ImportError inside the block into MissingExtra, with the name of the extra that
    `user` (words such as `lmprog lsp`) needs; an ImportError of a package of no extra stays as it is."""
    try:
        yield
    except ImportError as error:
        found = missing(error, user)
        if found is None:
            raise
        raise found from None
