"""`lmprog serve` and clients that are slow, silent or gone: none holds a connection or a place longer than its limit."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.functional.test_serve import LMPROG, Served, serve, waiting  # noqa: F401
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow


def connected(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), timeout=PATIENCE)


def closed(client: socket.socket) -> bool:
    """Return whether the server ends the connection; what it says before is read."""
    client.settimeout(PATIENCE)
    try:
        while client.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


HEAD = b"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_silent_clients_are_cut_off_and_hold_no_place(serve, waiting: Path) -> None:  # noqa: F811
    served = serve(waiting, "--client-timeout", "1", "--concurrency", "2", "--queue", "4")
    half = [b"", b"POST /run HT", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{", b"\x16\x03\x01 no HTTP\r\n\r\n"]
    clients = [connected(served) for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(half[number % len(half)])
    # 200 of them beside it, and both places are free.
    assert served.run(seconds=0).status_code == 200
    with ThreadPoolExecutor(len(clients)) as pool:  # all wait from now on
        assert all(pool.map(closed, clients))
    for client in clients:
        client.close()
    with connected(served) as client:  # a connection that has answered, and then begins a request that never ends
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in client.recv(4096)
        client.sendall(b"GET /hea")
        assert closed(client)
    assert served.run(seconds=0).status_code == 200
    assert "Traceback" not in served.stop()[1]


BIG = """
    lmprog: 1
    name: big
    inputs: {n: int}
    outputs: {text: "${{ steps.big.text }}"}
    tools: {big: {python: "./big.py:big", result: text}}
    steps: {big: {tool: big, with: {n: "${{ inputs.n }}"}}}
"""


def test_a_client_that_reads_nothing_is_cut_off(serve, write) -> None:  # noqa: F811
    write("def big(n: int) -> str:\n    return 'x' * n\n", "big.py")
    served = serve(write(BIG), "--client-timeout", "1", "--concurrency", "1")
    clients = []
    for path in (b"/run", b"/run?stream=1"):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(served.url.rpartition(":")[2])))
        body = b'{"n": 30000000}'
        client.sendall(HEAD.replace(b"/run", path) + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        clients.append(client)
    assert len(served.run(n=10).json()["outputs"]["text"]) == 10  # the place of those who read nothing is free
    assert all(closed(client) for client in clients)
    assert served.run(n=5).status_code == 200


def test_cut_streams_free_their_places(serve, waiting: Path, tmp_path: Path) -> None:  # noqa: F811
    served = serve(waiting, "--concurrency", "2", "--queue", "50", "--timeout", "60")
    body = b'{"seconds": 50}'
    for _ in range(20):
        client = connected(served)
        client.sendall(HEAD.replace(b"/run", b"/run?stream=1") + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset
    assert served.run(seconds=0).status_code == 200


CROWD = 1_000
WORK = """
    import asyncio

    async def work(n: int, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "x" * n
"""
WORKING = """
    lmprog: 1
    name: work
    inputs: {n: {type: int, default: 1}, seconds: {type: float, default: 0}}
    outputs: {text: "${{ steps.work.text }}"}
    tools: {work: {python: "./work.py:work", result: text}}
    steps: {work: {tool: work, with: {n: "${{ inputs.n }}", seconds: "${{ inputs.seconds }}"}}}
"""


def asking(path: bytes, body: bytes) -> bytes:
    return HEAD.replace(b"/run", path) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def drip(client: socket.socket) -> bool:
    """Send one byte; return whether the server still takes it."""
    try:
        client.sendall(b"X")
    except OSError:
        return False
    return True


def test_no_place_of_a_thousand_is_held_longer_than_its_limit(serve, write) -> None:  # noqa: F811
    """Silent clients, slow headers and bodies, slow readers and cut streams, all at once, beside one who only asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * CROWD:
        pytest.skip(f"a process may have {hard} files open here, too few for {CROWD} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CROWD), hard))
    write(WORK, "work.py")
    served = serve(write(WORKING), "--client-timeout", "2", "--concurrency", "4", "--queue", "1000", "--timeout", "60")
    port = int(served.url.rpartition(":")[2])
    clients: list[tuple[int, socket.socket]] = []
    dripping: list[socket.socket] = []
    for number in range(CROWD):
        kind = number % 10
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        if kind < 4:  # says nothing, or begins and says no more
            client.sendall((b"", b"POST /run HT", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{")[kind])
        elif kind < 6:  # says a byte now and then, of its headers or of its body
            client.sendall(HEAD if kind == 4 else HEAD + b"Content-Length: 10000\r\n\r\n")
            dripping.append(client)
        elif kind < 8:  # leaves a stream, with a reset
            client.sendall(asking(b"/run?stream=1", b'{"seconds": 50}'))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            continue
        else:  # reads nothing of a long answer
            client.sendall(
                asking(b"/run" if kind == 8 else b"/run?stream=1", b'{"n": 8000000}' if number < 40 else b"{}")
            )
        clients.append((number, client))
    # They go on dripping until all are cut off.
    wait_until(lambda: not any([drip(client) for client in dripping]) or time.sleep(0.3), "the end of those who drip")
    answer = served.run()
    assert answer.status_code == 200
    left = [number for number, client in clients if not closed(client)]
    assert not left
    for _, client in clients:
        client.close()
    assert served.run().status_code == 200
    assert "Traceback" not in served.stop()[1]


def test_a_server_with_few_files_refuses_and_goes_on(serve, write) -> None:  # noqa: F811
    write(WORK, "work.py")
    few = 'ulimit -n 96; exec "$0" "$@"'
    process = subprocess.Popen(
        ["bash", "-c", few, str(LMPROG), "serve", str(write(WORKING)), "--port", "0", "--client-timeout", "1"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        found = re.search(r"http://127.0.0.1:(\d+)", process.stderr.readline())
        assert found
        assert "at most 64 connections at a time, by the limit of open files" in process.stderr.readline()
        clients = [socket.create_connection(("127.0.0.1", int(found[1])), timeout=PATIENCE) for _ in range(150)]
        said = []
        for client in clients:
            with contextlib.suppress(ConnectionError):
                said.append(client.recv(4096))  # all are closed in time, with a refusal or without a word
        refused = [answer for answer in said if answer]
        assert refused and all(answer.startswith(b"HTTP/1.1 503") and b'"busy"' in answer for answer in refused)
        assert httpx.post(f"{found[0]}/run", json={}, timeout=PATIENCE).json()["outputs"] == {"text": "x"}
    finally:
        process.terminate()
        told = process.communicate()[1]
    assert "Traceback" not in told and told.count("all files that this process may open") <= 1
