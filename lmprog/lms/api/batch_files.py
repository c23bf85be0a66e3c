"""The batches that were given to a provider and are not yet used up, as a file on disk: a killed run finds them again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lmprog.compiler.yaml.whole_file import write_whole
from lmprog.errors import InfrastructureError


@dataclass
class Submitted:
    """A batch at the provider, or one that is about to be made there; an entry of BatchFile.

    `key` is a name that no other batch has, by which it is found there; `requests` are the ids of its requests, each with
    the request's digest; `id` is the provider's id (None: not known yet).
    """

    key: str
    """A name that no other batch has; the provider keeps it in the metadata of the batch, by which it is found."""
    requests: Sequence[str]
    """The ids of its requests, each with the digest of the request."""
    id: str | None = None
    """The provider's id; None while it is not known."""


class BatchFile:
    """The file with the submitted batches of one LM, written whole at each change, which raises OSError where it cannot
    be written. Another process must not use it at the same time.

    It is read when this is made (absent: no batches), which raises InfrastructureError for a file of another form.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.batches = self._read()

    def add(self, batch: Submitted) -> None:
        """Record a batch in the file, before the provider is asked to make it."""
        self.batches.append(batch)
        self.save()

    def remove(self, batches: Iterable[Submitted]) -> None:
        """Remove batches from the file, by identity; others are passed over. The file is deleted with the last."""
        gone = {id(batch) for batch in batches}
        self.batches = [batch for batch in self.batches if id(batch) not in gone]
        self.save()

    def save(self) -> None:
        """Write the present batches to the file, which only its owner may read; delete the file where there are none."""
        if self.batches:
            write_whole(self._path, json.dumps([asdict(batch) for batch in self.batches]), private=True)
        else:
            self._path.unlink(missing_ok=True)

    def _read(self) -> list[Submitted]:
        try:
            return [Submitted(**entry) for entry in json.loads(self._path.read_text())]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            raise InfrastructureError(
                f"{self._path} is no list of submitted batches; remove it, and cancel the batches that are at the provider"
            ) from error
