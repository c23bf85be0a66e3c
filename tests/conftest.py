"""What tests of every room share: an LM that does as it is told, and programs written into a folder of the test's own."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import socket
import sys
import textwrap
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

import lmprog
from lmprog import Completion, Request
from tests.ports import reserved
from tests.process_state import ProcessState

for name in [name for name in os.environ if name.startswith("OTEL_")]:
    # A collector of whoever runs the tests gets none of their runs.
    del os.environ[name]
if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker has one core to itself. It stands before torch is imported, and holds for the processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.register_profile("fast", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("same")
TOGETHER = ("tests/unit/lmprog/lms/api/", "tests/unit/test_")
"""Beginnings of the paths of files that one worker runs: it then imports litellm, or parses the code, for all of them."""


def pytest_configure(config: pytest.Config) -> None:
    """Take a quarter of the examples in a run of the fast tests; `pytest -m ""` takes them all."""
    if "not slow" in config.option.markexpr and config.getoption("--hypothesis-profile", None) is None:
        settings.load_profile("fast")


NEEDS_TORCH = re.compile(r'^(?:\w+ = )?pytest\.importorskip\("(?:torch|transformers|trl)\b', re.MULTILINE)
WHOLE_FILE = re.compile(r"^pytestmark = pytest\.mark\.(\w+)$", re.MULTILINE)


@cache
def mark_of(file: Path) -> str | None:
    """Return the mark that all tests of a file have: the one that it sets, or `torch` where it imports that as a whole."""
    text = file.read_text(encoding="utf-8")
    found = WHOLE_FILE.search(text)
    return found[1] if found is not None else "torch" if NEEDS_TORCH.search(text) else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave a file unread whose mark leaves all its tests out: what it imports can take longer than all that is run."""
    named = {Path(argument.partition("::")[0]).absolute() for argument in config.args}
    if collection_path.suffix != ".py" or collection_path in named:
        return None
    mark = mark_of(collection_path)
    return True if mark is not None and f"not {mark}" in config.option.markexpr else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that no worker begins one when the others have ended."""
    for item in items:
        if mark_of(item.path) == "torch":
            item.add_marker("torch")
    longest = {item.path for mark in ("model", "kill") for item in items if item.get_closest_marker(mark)}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in longest, item.path not in slow, -tests[item.path]))


def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of all later collections of garbage: it stays, and is a million objects."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return xdist's scheduling by files, for which files that belong together are one."""
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next(filter(nodeid.startswith, TOGETHER), None) or super()._split_scope(nodeid)

    return Together(config, log) if config.option.dist == "loadfile" else None


@pytest.fixture(autouse=True)
def process_state(request: pytest.FixtureRequest) -> Iterator[None]:
    """Puts the state of the process back, and fails the fast test that changed it: another test would fail by it, and not
    alone. Warns of changes that may not be the test's own.
    """
    before = ProcessState()
    yield
    own, unsure = before.changes()
    marked = any(map(request.node.get_closest_marker, ("slow", "torch", "model", "kill", "browser")))
    for changes, fails in ((own, not marked), (unsure, False)):
        if changes:
            said = "the test leaves the process changed:\n" + "\n".join(changes)
            pytest.fail(said, pytrace=False) if fails else warnings.warn(said, stacklevel=1)


class ScriptedLM:
    """Answers with `answer(request)`: a text, a Completion, or an exception that is raised; after `delay(request)` seconds."""

    def __init__(self, answer: Callable[[Request], Any], delay: Callable[[Request], float] | float = 0.0) -> None:
        self.answer, self.delay = answer, delay
        self.requests: list[Request] = []
        self.active = 0
        self.most_active = 0

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await asyncio.sleep(self.delay(request) if callable(self.delay) else self.delay)
            answer = self.answer(request)
        finally:
            self.active -= 1
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Completion) else Completion(text=answer)


@pytest.fixture
def scripted() -> type[ScriptedLM]:
    return ScriptedLM


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file, its common indentation removed, into the test's folder, and gives its path."""

    def write(text: str, name: str = "program.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    return write


@pytest.fixture
def program(write: Callable[..., Path]) -> Callable[..., lmprog.Program]:
    """A program of the given YAML, without its first two lines, whose LM `lm` is the given one."""

    def make(text: str, lm: Any = None, **files: str) -> lmprog.Program:
        for name, content in files.items():
            write(content, name.replace("__", "."))
        head = "lmprog: 1\nlms: {lm: {model: openai/none, trusted: true}}\n"
        path = write(head + textwrap.dedent(text).lstrip("\n"))
        return lmprog.load(path, lms={} if lm is None else {"lm": lm})

    return make


class _ManyAtOnce(ThreadingHTTPServer):
    # A client opens dozens of connections at once; those beyond the queue wait for seconds to try again.
    request_queue_size = 128


class Provider:
    """A server on this machine that speaks the chat-completions protocol.

    Each request takes the next of `replies`: a text, or (status, headers, body), or None to cut the connection; when they
    are used up the answer is `otherwise`. With `answer` set each request is answered by it, from its whole body.
    """

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.otherwise: Any = "ok"
        self.answer: Callable[[dict[str, Any]], Any] | None = None
        self.seconds = 0.0
        self.held_after: int | None = None
        """Requests after so many wait until `released` is set."""
        self.released = threading.Event()
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self._server = _ManyAtOnce(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *where: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _handler(provider) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                provider.requests.append(body)
                provider.keys.append(self.headers["authorization"])
                time.sleep(provider.seconds)
                if provider.held_after is not None and len(provider.requests) > provider.held_after:
                    provider.released.wait()
                reply = provider.replies.pop(0) if provider.replies else provider.otherwise
                if provider.answer is not None:
                    reply = provider.answer(body)
                elif callable(reply):
                    reply = reply(body["messages"][-1]["content"])
                if reply is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers, text = (200, {}, chat(reply)) if isinstance(reply, str) else reply
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler

    @staticmethod
    def counted(text: str, prompt_tokens: int, completion_tokens: int) -> Any:
        """A reply that says how many tokens it took."""
        return 200, {}, chat(text, prompt_tokens, completion_tokens)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def chat(text: str, prompt_tokens: int = 11, completion_tokens: int = 3) -> str:
    """The body of a reply in the chat-completions protocol."""
    message = {"role": "assistant", "content": text}
    return json.dumps({
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "x",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    })  # fmt: skip


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    yield server
    server.close()


@pytest.fixture(scope="session")
def closed_port() -> Iterator[int]:
    """A port of this machine where nobody listens."""
    with reserved() as port:
        yield port


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: its exit status, and what it wrote on standard output and error."""
    from lmprog.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exited:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return int(exited.value.code or 0), out, err

    return run


class Kernel:
    """A stand-in for IPython in a notebook, which keeps what is displayed."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, bar: Any, display_id: bool) -> Kernel:
        self.update(bar)
        return self

    def update(self, bar: Any) -> None:
        self.shown.append(bar._repr_html_())


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", kernel)
    return kernel


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder with a small Llama of random fp32 weights that reads and writes letters; equal seeds, equal weights."""

    def make(seed: int = 0) -> Path:
        from tests.tiny_model import write_tiny_model

        return write_tiny_model(tmp_path_factory.mktemp("model"), seed)

    return make
