"""Errors of writing weights: a full disk is reported as a failure of the machine, with the folder's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmprog.errors import InfrastructureError

_OF_TORCH = ("PytorchStreamWriter", "iostream error", "unexpected pos")
"""The words of a RuntimeError of torch.save where a file takes no more."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Return a context that turns the errors that safetensors and torch raise inside the block, where files in `folder`
    cannot be written, into InfrastructureError, which names the folder; an OSError passes unchanged.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise _failed(folder, error) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _OF_TORCH):
            raise
        raise _failed(folder, error) from error


def _failed(folder: Path, error: Exception) -> InfrastructureError:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InfrastructureError(f"{folder} cannot be written: {said}")
