"""HTTP response bodies, decompressed in small steps, and read no further than a limit of bytes."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from lmprog.errors import Handled

STEP = 65_536
"""Maximum bytes that a chunk is decoded to at once."""
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""The encodings that are asked for, by the window bits of zlib."""
ENCODINGS = "gzip, deflate"
"""The value of the header `Accept-Encoding` of requests."""


class TooLong(Handled):
    """The error for a body with more bytes than its limit."""


class OddEncoding(Handled, ValueError):
    """The error for a body in a content encoding that was not asked for, or that is broken."""


async def within(chunks: AsyncIterable[bytes], most: int | None) -> AsyncIterator[bytes]:
    """Yield the chunks of a response body unchanged. Raises TooLong in place of the chunk with which they come to more
    than `most` bytes; None sets no limit.
    """
    came = 0
    async for chunk in chunks:
        came += len(chunk)
        if most is not None and came > most:
            raise TooLong
        yield chunk


async def decoded(chunks: AsyncIterable[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Yield the `chunks` of a body of the content encoding `encoding` decompressed, in pieces of at most STEP (65,536)
    bytes, some of them empty; `identity` or an empty text yields the chunks as they are.

    Raises OddEncoding for an encoding other than gzip and deflate, and for broken data; a body that ends too early is
    not noticed.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        async for chunk in chunks:
            yield chunk
        return
    if name not in _WINDOWS:
        raise OddEncoding(f"it answered in the encoding {encoding}, which was not asked for")
    decoder, begun = zlib.decompressobj(_WINDOWS[name]), False
    async for chunk in chunks:
        if not begun and name == "deflate" and chunk and chunk[0] & 0x0F != 8:
            decoder = zlib.decompressobj(-15)  # some servers leave out the head of zlib
        begun = begun or bool(chunk)
        while chunk:
            try:
                yield decoder.decompress(chunk, STEP)
            except zlib.error as error:
                raise OddEncoding(f"it answered in broken {name}: {error}") from None
            chunk = decoder.unconsumed_tail
            if decoder.eof and name != "deflate" and decoder.unused_data:  # gzip may have several members
                chunk, decoder = decoder.unused_data, zlib.decompressobj(_WINDOWS[name])
    yield decoder.flush()


def bound(response: Any, most: int | None, base: type[Any], too_long: Callable[[], Exception]) -> None:
    """Limit an unread httpx response, in place, to `most` decompressed bytes (None: no limit): its stream is replaced by one
    that decompresses, and raises the error that `too_long` returns where more is read, and OddEncoding as `decoded` does.
    The header `content-encoding` is removed.

    `base` is httpx.AsyncByteStream, or the same class of a package that is a copy of httpx.
    """
    source, encoding = response.stream, response.headers.pop("content-encoding", "")

    class Bounded(base):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in within(decoded(source, encoding), most):
                    yield chunk
            except TooLong:
                raise too_long() from None

        async def aclose(self) -> None:
            await source.aclose()

    response.stream = Bounded()
