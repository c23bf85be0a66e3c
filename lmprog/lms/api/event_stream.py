"""Server-sent events: the data of each event of a stream, however its lines end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from lmprog.wire import loads

_LINE_END = re.compile(rb"\r\n|\n|\r")


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a stream without their ends (CR, LF or both); the last may lack one."""
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


async def events_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of each event: its `data` lines, each by itself where it is JSON, else joined.

    Some servers leave out the empty line between two events; others write one event over several lines.
    """
    held: list[bytes] = []
    async for line in lines_of(chunks):
        line = line.removeprefix(b"\xef\xbb\xbf")
        if line.startswith(b"data:"):
            held.append(line[5:].strip())
            if held[-1] == b"[DONE]" or _is_json(held[-1]):
                for data in held[:-1]:
                    yield data
                yield held[-1]
                held = []
            elif len(held) > 1 and _is_json(b"\n".join(held)):
                yield b"\n".join(held)
                held = []
        elif not line and held:
            yield b"\n".join(held)
            held = []
    if held:
        yield b"\n".join(held)


def _is_json(data: bytes) -> bool:
    try:
        loads(data)
    except ValueError:
        return False
    return True
