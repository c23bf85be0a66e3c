"""The addresses of the servers of an LM: those of its spec, or those of a file that is read again as it changes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from lmprog.compiler import plan
from lmprog.compiler.expressions.compiled import EvaluationError
from lmprog.errors import UsageError
from lmprog.lms.api.access import WHERE

log = logging.getLogger(__name__)
REREAD = 1.0
"""Seconds between two looks at a file of addresses."""


def listed(declared: plan.LM) -> Sequence[str]:
    """Return the present addresses of the servers of a fleet; empty for an LM with one server.

    Raises UsageError where a setting has no value or is no address, or where a file lists none. `declared` is the LM as
    the spec declares it.
    """
    fleet = declared.api_base
    if not isinstance(fleet, plan.Fleet):
        return ()
    return _fixed(declared, fleet) if fleet.discover is None else Discovered(declared.id, fleet.discover).addresses()


def _fixed(declared: plan.LM, fleet: plan.Fleet) -> tuple[str, ...]:
    found = []
    for written in fleet.addresses:
        try:
            address = str(written.evaluate({"env": os.environ})).strip().rstrip("/")
        except EvaluationError as error:
            said = str(error)
        else:
            if not is_address(address):
                raise UsageError(
                    f"the LM {declared.id!r}: the server {written.text} of api_base is no address; write it as "
                    "http://host:port/v1"
                )
            found.append(address)
            continue
        raise UsageError(f"the LM {declared.id!r}: {said}; set the variable {WHERE}, and run the command again")
    return tuple(dict.fromkeys(found))


def is_address(text: str) -> bool:
    """Return whether a text is the address of a server: http or https with a host, and no blank in it."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and " " not in text
    except ValueError:
        return False


class Discovered:
    """The addresses of servers in a file, one on a line; blank lines, `#` comments, repetitions and lines that are no
    address are left out.
    """

    def __init__(self, id: str, path: Path) -> None:
        self._id, self._path = id, path
        self._found: tuple[str, ...] = ()
        self._state: tuple[int, int] | None = None
        self._looked = float("-inf")

    def addresses(self) -> Sequence[str]:
        """Return the addresses in the file, which is looked at again after REREAD seconds (1); where the file is gone or
        lists none, those that it listed before.

        Raises UsageError where it has never listed one.
        """
        now = time.monotonic()
        if now - self._looked >= REREAD:
            self._looked = now
            self._look()
        if not self._found:
            raise UsageError(
                f"the LM {self._id!r}: {self._path} lists no server; write one address (http://host:port/v1) on each line"
            )
        return self._found

    def _look(self) -> None:
        try:
            status = self._path.stat()
            state = (status.st_mtime_ns, status.st_size)
            if state == self._state:
                return
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            if self._state is not None or not self._found:
                log.warning("%s: the list of servers %s is not read: %s", self._id, self._path, error)
            self._state = None
            return
        self._state = state
        named = [line.partition("#")[0].strip().rstrip("/") for line in lines]
        wrong = [text for text in named if text and not is_address(text)]
        if wrong:
            log.warning("%s: %d lines of %s are no address of a server", self._id, len(wrong), self._path)
        self._found = tuple(dict.fromkeys(text for text in named if is_address(text))) or self._found
