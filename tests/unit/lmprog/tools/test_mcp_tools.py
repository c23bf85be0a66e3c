"""MCP tools against a real server, over stdio and over streamable http: results, failures, crashes, nothing left running."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

import lmprog
from lmprog import UsageError
from lmprog.compiler.plan import Tool
from lmprog.compiler.types.lattice import STR
from lmprog.tools.mcp import _value
from tests.ports import listens, reserved
from tests.waiting import PATIENCE, until_true, wait_until

pytestmark = pytest.mark.skipif(find_spec("mcp") is None, reason="needs the extra 'mcp'")

SERVER = Path(__file__).resolve().parents[3] / "mcp_server.py"
STDIO = f"command: [{sys.executable}, {SERVER}]"
SPEC = """
    lmprog: 1
    outputs: {{x: "${{{{ steps.use.found }}}}"}}
    tools:
      use: {{mcp: {{{server}, tool: {tool}{more}}}, result: found{tool_more}}}
    steps:
      use: {{tool: use, with: {{{given}}}}}
"""


@pytest.fixture
def made(write) -> Callable[..., lmprog.Program]:
    def made(tool: str, given: str = "", more: str = "", server: str = STDIO, tool_more: str = "") -> lmprog.Program:
        return lmprog.load(write(SPEC.format(tool=tool, given=given, more=more, server=server, tool_more=tool_more)))

    return made


@pytest.mark.slow
def test_the_environment_is_read_within_a_command_and_hidden_in_messages(made, monkeypatch) -> None:
    monkeypatch.setenv("MCP_CODE", "key987654")
    error = made("x", server=f"command: ['{sys.executable}', '-c', '${{{{ env.MCP_CODE }}}}']").map([{}])[0].error
    assert error is not None and "name '[secret]' is not defined" in error.message


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the same server answers over http."""
    with reserved() as port:
        process = subprocess.Popen([sys.executable, str(SERVER), str(port)], stderr=subprocess.DEVNULL)
        wait_until(lambda: listens(port) or process.poll() is not None, "the server")
        yield f'url: "http://127.0.0.1:{port}/mcp"'
        process.kill()
        process.wait()


def gone(pid: int) -> bool:
    """Return whether the process has ended. It is waited for: a server is told to end before it is made to."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("tool", "given", "more", "found"),
    [
        ("add", "a: 3", ", output: int", 4),
        ("add", "a: 3, b: 4", ", output: float", 7),
        ("page", "title: Oslo", ', output: {title: str, text: str}', {"title": "Oslo", "text": "about Oslo"}),
        ("page", "title: Oslo", "", {"title": "Oslo", "text": "about Oslo"}),
        ("shout", "text: hey", ", output: str", "HEY"),
        ("shout", "text: hey", "", "HEY"),
        ("shout", 'text: "[1, 2]"', ', output: "list[int]"', [1, 2]),
    ],
)  # fmt: skip
def test_results_over_http_are_of_the_declared_type(made, address, tool, given, more, found) -> None:
    assert made(tool, given, more, address)().outputs == {"x": found}


@pytest.mark.slow
def test_stdio_gives_the_same_and_one_session_serves_all_calls(made) -> None:
    async def run() -> tuple[object, set[str]]:
        program = made("add", "a: 3", ", output: int")
        sum = (await program.run({})).outputs
        program = made("pid", more=", output: str")
        pids = [(await program.run({})).outputs["x"] for _ in range(2)]
        pids += [result.outputs["x"] for result in await asyncio.gather(*(program.run({}) for _ in range(4)))]
        pids.append((await program.with_candidate(Nothing()).run({})).outputs["x"])
        return sum, set(pids)

    sum, pids = asyncio.run(run())
    assert sum == {"x": 4}
    (pid,) = pids
    wait_until(lambda: gone(int(pid)), "the end of the server")


class Nothing:
    """A candidate that changes nothing."""

    def as_overlay(self) -> dict[str, object]:
        return {}


@pytest.mark.slow
def test_aclose_ends_the_server_and_the_next_use_starts_another(made) -> None:
    async def run() -> tuple[str, str]:
        program = made("pid", more=", output: str")
        first = (await program.run({})).outputs["x"]
        before = asyncio.all_tasks()
        await program.aclose()
        assert before - asyncio.all_tasks() and asyncio.all_tasks() == {asyncio.current_task()}
        await until_true(lambda: gone(int(first)), "the end of the server")
        return first, (await program.run({})).outputs["x"]

    first, second = asyncio.run(run())
    assert first != second


def test_what_a_server_reports_is_the_tools_failure(made, address) -> None:
    error = made("fails", "text: Oslo", server=address).map([{}])[0].error
    assert error.kind == "tool" and "no page about Oslo" in error.message
    error = made("nothing", server=address).map([{}])[0].error
    assert error.kind == "tool" and "nothing" in error.message
    error = made("shout", "text: hey", ", output: int", address).map([{}])[0].error
    assert error.kind == "tool" and "no JSON" in error.message
    error = made("page", "title: x", ", output: int", address).map([{}])[0].error
    assert error.kind == "tool" and "does not declare" in error.message


class Gate:
    """Passes what is posted on to the server at an address, until it is shut: then it answers 503."""

    def __init__(self, address: str) -> None:
        self.shut = False
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if gate.shut:
                    self.send_error(503)
                    return
                headers = {
                    name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")
                }
                try:
                    reply = urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=PATIENCE)
                except urllib.error.HTTPError as error:
                    reply = error
                told = reply.read()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    if name.lower() in ("content-type", "mcp-session-id"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def do_GET(self) -> None:
                self.send_error(405)

            do_DELETE = do_GET

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f'url: "http://127.0.0.1:{self.server.server_port}/mcp"'


def test_a_server_whose_gateway_fails_is_an_outage(made, address) -> None:
    gate = Gate(address.removeprefix('url: "').removesuffix('"'))

    async def run() -> None:
        program = made("add", "a: 3", ", output: int", gate.url)
        assert (await program.run({})).outputs == {"x": 4}
        gate.shut = True
        error = (await program.run({})).error
        assert error is not None and error.kind == "connection"
        gate.shut = False
        assert (await program.run({})).outputs == {"x": 4}

    asyncio.run(run())
    gate.server.shutdown()
    gate.server.server_close()


@pytest.mark.slow
def test_a_server_that_crashed_is_started_again(made, tmp_path) -> None:
    marker = tmp_path / "died"
    reads = made("dies", f"once: {marker}", ", output: str", tool_more=", effects: read")
    assert reads().outputs == {"x": "alive again"}
    marker.unlink()
    writes = made("dies", f"once: {marker}", ", output: str", tool_more=", effects: write")
    result = writes.map([{}])[0]
    assert (result.error.kind, result.error.message) == ("connection", "use: the MCP server ended during the call")
    assert writes().outputs == {"x": "alive again"}


def children() -> set[str]:
    """The process ids of the servers that this process has running."""
    listed = subprocess.run(["ps", "-ewwo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return {pid for pid, parent, args in rows if parent == str(os.getpid()) and str(SERVER) in args}


@pytest.mark.slow
def test_a_program_that_is_gone_takes_its_servers_along(made) -> None:
    async def run() -> None:
        program = made("pid", more=", output: str")
        pid = int((await program.run({})).outputs["x"])
        del program
        gc.collect()
        await until_true(lambda: gone(pid), "the end of the server")

    asyncio.run(run())


@pytest.mark.slow
def test_a_call_that_is_cut_short_leaves_nothing(made) -> None:
    before = children()
    pids: list[str] = []

    async def run() -> None:
        program = made("pid", more=", output: str")
        pids.append((await program.run({})).outputs["x"])
        assert pids[0] in children()
        slow = made("sleeps", tool_more=", timeout: 10")
        result = await slow.run({})
        assert result.error.message == "use did not end within 10 seconds"
        task = asyncio.create_task(made("sleeps").run({}))
        await asyncio.sleep(0.2)  # while the server is being started
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    wait_until(lambda: gone(int(pids[0])), "the end of the server")
    wait_until(lambda: children() <= before, "the end of all servers")


@pytest.mark.slow
def test_a_process_that_ends_takes_its_servers_along(made, tmp_path) -> None:
    made("pid", more=", output: str")
    script = "import lmprog, sys; print(lmprog.load(sys.argv[1])().outputs['x'])"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "program.yaml")], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0 and done.stderr == ""
    wait_until(lambda: gone(int(done.stdout)), "the end of the server")


def test_a_server_that_does_not_start(made, closed_port) -> None:
    error = made("x", server="command: [no-such-program-here]").map([{}])[0].error
    said = error.message
    assert error.kind == "connection" and "the MCP server does not start" in said and "no-such-program-here" in said
    ends = f"command: ['{sys.executable}', '-c', 'raise SystemExit(\"no config\")']"
    assert "no config" in made("x", server=ends).map([{}])[0].error.message
    error = made("x", server=f'url: "http://127.0.0.1:{closed_port}/mcp"').map([{}])[0].error
    said = error.message
    assert error.kind == "connection" and "the MCP server does not start" in said and "attempts failed" in said


@pytest.mark.slow
def test_the_environment_reaches_the_server_and_no_message(made, monkeypatch) -> None:
    more = ', output: str, env: {DESK_TOKEN: "${{ env.MY_TOKEN }}"}'
    monkeypatch.setenv("MY_TOKEN", "tok-123456")
    assert made("secret", more=more)().outputs == {"x": "tok-123456"}
    quoted = made("secret", more=more.replace("output: str", "output: int")).map([{}])[0].error.message
    assert "[secret]" in quoted and "tok-123456" not in quoted
    script = "import os; raise SystemExit('bad ' + os.environ['DESK_TOKEN'])"
    server = f"command: ['{sys.executable}', '-c', \"{script}\"]"
    said = made("x", server=server, more=more).map([{}])[0].error.message
    assert "bad [secret]" in said and "tok-123456" not in said
    monkeypatch.delenv("MY_TOKEN")
    with pytest.raises(UsageError, match=r"MY_TOKEN.*set the variable"):
        made("secret", more=more)()


def test_without_the_sdk_it_says_how_to_get_it(made, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(UsageError, match=r"pip install 'lmprog\[mcp\]'"):
        made("add", "a: 1")()


@pytest.mark.slow
@pytest.mark.parametrize("over", ["stdio", "http"])
def test_an_answer_has_a_length_and_a_depth(made, address: str, over: str) -> None:
    server = STDIO if over == "stdio" else address
    short = made("shout", "text: abc", server=server, tool_more=", answer_mb: 0.001")
    assert short().outputs == {"x": "ABC"}
    long = made("shout", f"text: {'a' * 2000}", server=server, tool_more=", answer_mb: 0.001")
    for program in (long, long):  # the session goes on
        error = program.map([{}])[0].error
        assert error is not None and "the answer is longer than 0.001 MB; raise tools.use.answer_mb" in error.message
    for levels, said in ((100, None), (101, "nested deeper than 100"), (250, "")):
        error = (
            made("deep", f"levels: {levels}", ", output: json", server=server, tool_more=", timeout: 10")
            .map([{}])[0]
            .error
        )
        assert (error is None) == (said is None), error
        assert error is None or said in error.message


@pytest.mark.parametrize(
    ("structured", "found"),
    [
        (None, "said"),
        ({"result": "inner"}, "inner"),
        ({"result": "inner", "more": 1}, "said"),
        ({"other": 1}, "said"),
        (5, "said"),
    ],
)
def test_a_text_is_that_of_the_answer_but_for_one_that_travels_in_an_object(structured, found) -> None:
    tool = Tool("use", "mcp", None, {}, "found", STR, {})
    assert _value(tool, structured, "said") == found
