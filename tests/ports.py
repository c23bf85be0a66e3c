"""Ports of this machine for servers that cannot say which port they were given."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


def listens(port: int) -> bool:
    """Return whether somebody listens at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def reserved() -> Iterator[int]:
    """Hold a port inside the block: the system gives it to nobody else, and whoever is told its number may listen there.

    Until then nobody listens there, and a connection is refused. (A port that is found free and let go may be given away
    before its server starts.)
    """
    with socket.socket() as held:
        # Two sockets that both reuse addresses may share a port as long as one of them alone listens.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
