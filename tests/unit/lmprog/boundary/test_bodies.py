"""Bodies as servers send them: decoded in small steps, and read no further than their limit, on every route."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import json
import subprocess
import sys
import textwrap
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.boundary.bodies import STEP, OddEncoding, TooLong, decoded, within


async def _of(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def read(parts: list[bytes], encoding: str) -> list[bytes]:
    async def collect() -> list[bytes]:
        return [chunk async for chunk in decoded(_of(parts), encoding)]

    return asyncio.run(collect())


def raw_deflate(content: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(content) + made.flush()


ENCODERS = {
    "": bytes,
    "gzip": gzip.compress,
    "X-Gzip": gzip.compress,
    "deflate": zlib.compress,
    " deflate": raw_deflate,
}


@given(st.binary(max_size=300), st.integers(1, 400), st.sampled_from(sorted(ENCODERS)), st.integers(1, 50))
def test_a_body_is_what_it_was_however_it_comes(content: bytes, times: int, encoding: str, size: int) -> None:
    body = ENCODERS[encoding](content * times)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    found = read(parts, encoding)
    assert b"".join(found) == content * times
    assert all(len(chunk) <= STEP for chunk in found)


def test_members_of_gzip_are_one_body() -> None:
    body = gzip.compress(b"a" * 100_000) + gzip.compress(b"b")
    assert b"".join(read([body], "gzip")) == b"a" * 100_000 + b"b"


def test_other_encodings_and_broken_ones_are_refused() -> None:
    for encoding, said in (("br", "which was not asked for"), ("gzip, gzip", "not asked for"), ("gzip", "broken gzip")):
        with pytest.raises(OddEncoding, match=said):
            read([b"no such thing"], encoding)


def test_a_limit_is_exact() -> None:
    async def total(most: int | None) -> int:
        return sum([len(chunk) async for chunk in within(_of([b"ab", b"c"]), most)])

    assert [asyncio.run(total(most)) for most in (3, None)] == [3, 3]
    with pytest.raises(TooLong):
        asyncio.run(total(2))


# a bomb, on every route


def bomb() -> bytes:
    """About 1 MB of gzip that stands for 1 GB."""
    block = zlib.compressobj(wbits=-15)
    part = block.compress(b" " * (64 << 20)) + block.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + part * 16


MCP = {
    "initialize": {
        "protocolVersion": "2025-03-26",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "desk", "version": "1"},
    },
    "tools/list": {"tools": [{"name": "find", "inputSchema": {"type": "object"}}]},
}


@pytest.fixture(scope="module")
def bomber() -> Iterator[str]:
    """A server that answers with the bomb, as a stream where the request asks for one; of MCP it speaks the beginning."""
    content = bomb()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"] or 0)) or b"{}")
            method = asked.get("method", "")
            if self.command == "GET" and self.path == "/mcp":
                return self.give(405, b"")
            if method in MCP:
                return self.give(200, json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": MCP[method]}).encode())
            if method.startswith("notifications/"):
                return self.give(202, b"")
            streams = asked.get("stream") or self.path == "/mcp-stream"
            kind = "text/event-stream" if streams else "application/json"
            self.give(200, content, **{"Content-Encoding": "gzip", "Content-Type": kind})

        def give(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *where: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


ASK = """
    lms: {lm: {model: MODEL, api_base: "URL/v1", api_key: k, limits: {tries: 1, timeout: 60}}}
    modules: {use: {lm: lm, inputs: {}, outputs: {found: str}, instructions: Answer.}}
    steps: {use: {module: use}}
"""
USE = """
    tools: {use: {TOOL, result: found}}
    steps: {use: {tool: use}}
"""
ROUTES = {
    "direct": ASK.replace("MODEL", "openai/x"),
    "litellm": ASK.replace("MODEL", "litellm_proxy/x"),
    "another of litellm": ASK.replace("MODEL", "anthropic/x"),
    "http": USE.replace("TOOL", 'http: {url: "URL/a"}'),
    "mcp": USE.replace("TOOL", 'mcp: {url: "URL/mcp", tool: find}'),
}
CHILD = """
    import asyncio, json, pathlib, re, sys
    import lmprog
    from lmprog.runtime.options import RunOptions

    def memory(what):
        return int(re.search(what + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

    async def main():
        program = lmprog.load(sys.argv[1])
        if sys.argv[2]:  # what a first call of an LM imports is not what a body costs
            await lmprog.load(sys.argv[1], overrides={"lms.lm.api_base": sys.argv[2]}).run({})
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmRSS")
        seen = [] if sys.argv[3] == "stream" else None
        result = await program.run({}, options=RunOptions(on_text=None if seen is None else seen.append))
        print(json.dumps([(memory("VmHWM") - before) / 1024, str(result.error)]))

    asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads a process's peak of memory in /proc")
@pytest.mark.parametrize(
    ("route", "way"),
    [(route, "whole") for route in ROUTES] + [(route, "stream") for route in ROUTES if route not in ("http", "mcp")],
)
def test_a_bomb_costs_little_memory(route: str, way: str, bomber: str, tmp_path: Path) -> None:
    for package in ("litellm", "mcp"):
        if package in route and importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    head = 'lmprog: 1\noutputs: {x: "${{ steps.use.found }}"}\n'
    (tmp_path / "program.yaml").write_text(head + textwrap.dedent(ROUTES[route]).replace("URL", bomber))
    elsewhere = bomber.rpartition(":")[0] + ":1/v1" if "lms:" in ROUTES[route] else ""
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path / "program.yaml"), elsewhere, way],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    megabytes, error = json.loads(child.stdout.splitlines()[-1])
    limit = "32 MB" if "lms:" in ROUTES[route] else "16 MB"
    assert f"is longer than {limit}" in error and "where such a" in error, error
    assert megabytes < 200, f"{megabytes:.0f} MB"
    assert "Traceback" not in child.stderr, child.stderr
