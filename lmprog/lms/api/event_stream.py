"""Server-sent events: the data of each event of a stream, however its lines end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from lmprog.boundary.wire import loads

_LINE_END = re.compile(rb"\r\n|\n|\r")


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a stream without their ends (CR, LF or both, also in two chunks); the last may lack one."""
    begun: list[bytes] = []
    after_cr = False
    async for chunk in chunks:
        rest = chunk.removeprefix(b"\n") if after_cr else chunk
        after_cr = chunk.endswith(b"\r") if chunk else after_cr
        *lines, last = _LINE_END.split(rest)
        for line in lines:
            yield b"".join([*begun, line])
            begun = []
        if last:
            begun.append(last)
    if begun:
        yield b"".join(begun)


async def events_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[bytes, Any]]:
    """Yield for each server-sent event its data as bytes, and the data parsed as JSON (UNREADABLE where it is no JSON).

    The `data` lines of an event come each by itself where they are JSON, else joined: some servers leave out the empty line
    between two events; others write one event over several lines.
    """
    held: list[tuple[bytes, Any]] = []
    async for line in lines_of(chunks):
        line = line.removeprefix(b"\xef\xbb\xbf")
        if line.startswith(b"data:"):
            held.append(_parsed(line[5:].strip()))
            if held[-1][0] == b"[DONE]" or held[-1][1] is not UNREADABLE:
                for event in held:
                    yield event
                held = []
            elif len(held) > 1 and (whole := _joined(held))[1] is not UNREADABLE:
                yield whole
                held = []
        elif not line and held:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


UNREADABLE = object()
"""The value of an event's data that is no JSON."""


def _joined(held: Sequence[tuple[bytes, Any]]) -> tuple[bytes, Any]:
    return held[0] if len(held) == 1 else _parsed(b"\n".join(data for data, _ in held))


def _parsed(data: bytes) -> tuple[bytes, Any]:
    try:
        return data, loads(data)
    except ValueError:
        return data, UNREADABLE
