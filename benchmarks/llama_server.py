"""llama.cpp's server as a peer of the engine: a process of its own that answers many prompts at a time.

cmake -B build -DCMAKE_BUILD_TYPE=Release && cmake --build build --target llama-server    # in its sources
python convert_hf_to_gguf.py MODEL --outtype bf16 --outfile MODEL.gguf
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

SLOTS = 32
"""Prompts that it works on at a time: the batch of the other peer."""
PATIENCE = 120.0
"""Seconds for the server to start."""


class LlamaServer:
    """The server at work inside the block, with room for prompts and replies of `tokens` in each of its slots."""

    def __init__(self, binary: Path, gguf: Path, tokens: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        room = SLOTS * (tokens + 16)
        self._command = [
            *(str(binary), "-m", str(gguf), "--port", str(self._port), "-np", str(SLOTS), "-c", str(room)),
            *("--host", "127.0.0.1", "-b", "2048", "--no-webui"),
        ]

    def __enter__(self) -> LlamaServer:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health"):
                    return self
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        self._process.kill()
        raise SystemExit(f"llama.cpp's server did not start: {' '.join(self._command)}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def answer(self, prompts: Sequence[Sequence[int]], tokens: int) -> tuple[float, list[tuple[int, ...]]]:
        """Return the seconds and the token ids of greedy replies, which may have no end token."""
        started = time.perf_counter()
        with ThreadPoolExecutor(2 * SLOTS) as pool:
            replies = list(pool.map(lambda prompt: self._reply(prompt, tokens), prompts))
        return time.perf_counter() - started, replies

    def _reply(self, prompt: Sequence[int], tokens: int) -> tuple[int, ...]:
        asked = {
            "prompt": list(prompt),
            "n_predict": tokens,
            "temperature": 0.0,
            "top_k": 1,
            "cache_prompt": True,
            "return_tokens": True,
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/completion",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as found:
            return tuple(json.load(found)["tokens"])
