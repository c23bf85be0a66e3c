"""A stand-in for an LM server of OpenAI's protocol, for benchmarks.

It answers each request after some time, with one fixed reply, and refuses (HTTP 429) what exceeds the calls in flight that it
allows. It reads HTTP by itself, as far as the clients of benchmarks need it (keep-alive, bodies with a Content-Length): it
shares the processors with what is measured, and a framework takes almost three times as much of them.

    python -m benchmarks.slow_server PORT SECONDS ALLOWED
"""

from __future__ import annotations

import asyncio
import bisect
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

WINDOW = 10.0
"""Seconds within which requests are counted against a rate."""
HEADS_END = b"\r\n\r\n"


def _response(status: str, value: Any) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status.encode(),
        len(body),
        body,
    )


REPLY = _response(
    "200 OK",
    {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21},
    },
)
REFUSAL = _response("429 Too Many Requests", {"error": {"message": "too many"}})
UNKNOWN = _response("404 Not Found", {"error": {"message": "no such path"}})


class Counts:
    """The counts of a server: when each request came, how many were in flight together, and how many were refused."""

    def __init__(self, seconds: float, allowed: int) -> None:
        self.seconds, self.allowed = seconds, allowed
        self.came: list[float] = []
        self.flying = self.most = self.refused = 0

    def taken(self) -> dict[str, int]:
        """Return the counts since they were taken last, and begin them anew."""
        crowd = max((bisect.bisect_left(self.came, at + WINDOW) - n for n, at in enumerate(self.came)), default=0)
        found = {
            "requests": len(self.came),
            "most_in_flight": self.most,
            "refused": self.refused,
            "most_in_10_s": crowd,
        }
        self.came, self.most, self.refused = [], 0, 0
        return found


class Connection(asyncio.Protocol):
    """A connection of a client, whose requests are answered one after the other."""

    def __init__(self, counts: Counts) -> None:
        self._counts, self._unread, self._answering = counts, b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if not self._answering:
            self._read()

    def _read(self) -> None:
        """Take the next request, where the whole of it has come."""
        heads, mark, rest = self._unread.partition(HEADS_END)
        if not mark:
            return
        _, found, length = heads.lower().partition(b"content-length:")
        size = int(length.partition(b"\r\n")[0]) if found else 0
        if len(rest) < size:
            return
        self._unread = rest[size:]
        self._answering = True
        if heads.startswith(b"POST /v1/chat/completions "):
            self._ask()
        elif heads.startswith(b"GET /figures "):
            self._answer(_response("200 OK", self._counts.taken()))
        else:
            self._answer(UNKNOWN)

    def _ask(self) -> None:
        counts = self._counts
        counts.came.append(time.monotonic())
        if counts.flying >= counts.allowed:
            counts.refused += 1
            self._answer(REFUSAL)
            return
        counts.flying += 1
        counts.most = max(counts.most, counts.flying)
        asyncio.get_running_loop().call_later(counts.seconds, self._reply)

    def _reply(self) -> None:
        self._counts.flying -= 1
        self._answer(REPLY)

    def _answer(self, response: bytes) -> None:
        self._answering = False
        if not self._transport.is_closing():
            self._transport.write(response)
            if self._unread:
                self._read()


async def serve(port: int, seconds: float, allowed: int) -> None:
    """Answer requests until the process is ended."""
    counts = Counts(seconds, allowed)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(counts), "127.0.0.1", port, backlog=4096)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    listening.close()


class Server:
    """The address of a server in a process of its own."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def figures(self) -> dict[str, Any]:
        """Return the counts of the server since they were asked for last."""
        with urllib.request.urlopen(f"{self.base}/figures", timeout=60) as reply:
            found: dict[str, Any] = json.load(reply)
            return found


@contextmanager
def server(seconds: float, allowed: int) -> Iterator[Server]:
    """Return a context that starts a server which answers after `seconds` and allows so many calls in flight, and yields its
    address; the server ends with the block."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.slow_server", str(port), str(seconds), str(allowed)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.05)
        yield Server(port)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
