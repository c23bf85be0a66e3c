"""The messages of MCP servers that do not start, and the comparison of servers with the files that describe them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.tools.lock_file import Listing, Server, text_of
from lmprog.errors import InfrastructureError
from lmprog.tools import mcp_listing, mcp_session
from lmprog.tools.mcp_listing import differences
from lmprog.tools.mcp_session import last_words

TRACEBACK = """\
Starting.
  + Exception Group Traceback (most recent call last):
  |   File "server.py", line 3, in <module>
  |     server.run()
  |     ^^^^^^^^^^
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "x.py", line 1, in list
    | pydantic_core._pydantic_core.ValidationError: 2 validation errors for Order
    | state
    |   Field required
    +------------------------------------
"""


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ("", ""),
        ("no config\n", "no config"),
        (
            TRACEBACK,
            "pydantic_core._pydantic_core.ValidationError: 2 validation errors for Order / state / Field required",
        ),
        ("Traceback\n  File \"s.py\", line 1\nModuleNotFoundError: No module 'x'\n", "ModuleNotFoundError: No module 'x'"),
        ("npm error code E404\nnpm error 404 Not Found\n", "npm error code E404 / npm error 404 Not Found"),
        ("a\x1b[31mred\n", "a\\u001b[31mred"),
        ("".join(f"line {number}\n" for number in range(9)), " / ".join(f"line {number}" for number in range(4, 9))),
        ("ValueError: bad\n" + "more\n" * 9, "ValueError: bad / more / more / more / more"),
        ("x" * 1000, "x" * 200),
    ],
)  # fmt: skip
def test_the_last_words_of_a_server(log: str, shown: str) -> None:
    assert last_words(log) == shown


def test_the_end_of_a_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_session, "LOG_BYTES", 5)
    with (tmp_path / "log").open("w+") as log:
        assert mcp_session._end_of(log) == ""
        log.write("0123456789")
        log.flush()
        assert mcp_session._end_of(log) == "56789"


@pytest.mark.parametrize(
    ("program", "said", "named"),
    [
        ("python-that-is-not-there", "No module named 'mcp'", True),
        ("node", "No module named 'mcp'", False),
        (sys.executable, "ValueError: no", False),
    ],
)
def test_the_python_that_lacks_a_package_is_named(program: str, said: str, named: bool) -> None:
    words = mcp_session._other_python(program, None, said)
    assert (f"`{program}` is {program}, which has no `mcp`" in words and sys.executable in words) is named
    assert bool(words) is named


def _servers(write, schema: object, more: str = "") -> tuple[Server, ...]:
    write(json.dumps(schema), "t.json")
    spec = write(
        f"lmprog: 1\ntools: {{t: {{mcp: {{command: x, tool: look, schema: t.json}}{more}}}}}\n"
        'steps: {s: {tool: t}}\noutputs: {o: "${{ steps.s.result }}"}\n'
    )
    return compile_file(spec).servers


NOW = {
    "name": "look",
    "description": "Looks.",
    "inputSchema": {"type": "object", "properties": {}},
    "annotations": {"readOnlyHint": True},
}


@pytest.mark.parametrize(
    ("schema", "now", "said"),
    [
        (NOW, NOW, []),
        (NOW["inputSchema"], NOW, []),  # of what the file does not say nothing differs
        (NOW, NOW | {"description": "Sees."}, ["the tool `look` of the MCP server of `t` has another description"]),
        (NOW, None, ["the MCP server of `t` has the tool `look` no longer"]),
        ([NOW, NOW | {"name": "other"}], NOW, []),
    ],
)
def test_a_server_is_compared_with_its_schema_file(write, schema: object, now: dict | None, said: list[str]) -> None:
    (server,) = _servers(write, schema)
    assert differences(server, Listing({"look": now} if now is not None else {})) == said


def test_what_a_schema_file_describes_is_not_written_to_the_lock_file(write, cli, monkeypatch) -> None:
    _servers(write, NOW)
    spec = write("", "unused.yaml").with_name("program.yaml")

    async def listed(servers: object) -> list[Listing]:
        return [Listing({"look": NOW}, server="museum", ids=("t",))]

    monkeypatch.setattr(mcp_listing, "list_servers", listed)
    status, out, _ = cli("tools", spec)
    assert (status, out.splitlines()[0]) == (0, "t: museum (described by t.json, not by the lock file)")
    assert not spec.with_suffix(".lock.json").exists()
    assert cli("tools", spec, "--check") == (0, "", "the servers are as their lock and schema files say\n")
    Path(spec.with_name("t.json")).write_text(json.dumps(NOW | {"description": "Sees."}))
    for more in ((), ("--check",)):
        status, out, _ = cli("tools", spec, *more)
        assert status == 1 and out.count("LMP605") == 1 and "fix: look at what changed, then write t.json anew" in out


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("command: python, args: [server.py]", []),
        ("command: python3 -u server.py", []),
        ("command: [python, server.py, other.py]", []),  # arguments of the script may be files that it makes
        ("command: python, args: [-m, stok.py]", []),
        ("command: uv, args: [run, stok.py]", []),
        ("command: npx, args: [-y, stok.js]", []),
        ('command: "${{ env.PYTHON }}", args: [stok.py]', []),
        ("command: python, args: [servr.py]", ["error servr.py did you mean `server.py`?"]),
        ("command: python3.12 servr.py", ["error servr.py did you mean `server.py`?"]),
        ("command: [node, --trace-warnings, here/index.mjs]", ["error here/index.mjs there is no folder"]),
        ("command: ./servr.py", ["warning ./servr.py did you mean `server.py`?"]),
        ("command: /no/such/folder/python, args: [server.py]", ["warning /no/such/folder/python there is no folder"]),
    ],
)
def test_a_file_that_starts_a_server_must_be_there(write, server: str, said: list[str]) -> None:
    write("", "server.py")
    write(json.dumps(NOW), "t.json")
    spec = write(
        f"lmprog: 1\ntools: {{t: {{mcp: {{{server}, tool: look, schema: t.json}}}}}}\n"
        'steps: {s: {tool: t}}\noutputs: {o: "${{ steps.s.result }}"}\n'
    )
    found = [finding for finding in compile_file(spec).findings if finding.code == "LMP103"]
    assert [f"{each.severity} {each.message.split('`')[3]} {each.fix}" for each in found] == [
        *(line if not line.endswith("no folder") else f"{line} {found[0].fix.split()[-1]}" for line in said)
    ]


def test_a_lock_file_of_another_command_says_that_there_is_no_such_command(write) -> None:
    spec = write(
        "lmprog: 1\ntools: {t: {mcp: {command: no-such-command, args: [x]}, only: [look]}}\n"
        'steps: {s: {tool: t.look}}\noutputs: {o: "${{ steps.s.result }}"}\n'
    )
    spec.with_suffix(".lock.json").write_text(text_of([Listing({"look": NOW}, ids=("t",), reached_by="before")]))
    (finding,) = compile_file(spec).findings
    assert (finding.code, finding.severity) == ("LMP605", "warning")
    assert finding.message.endswith("by another command or address; there is no command `no-such-command` on the path")


def test_a_server_that_is_slow_to_list_its_tools_is_given_more_time_by_timeout(write, monkeypatch) -> None:
    (server,) = _servers(write, NOW, ", timeout: 0.001")

    @contextlib.asynccontextmanager
    async def session(settings: object, tool: object):
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(mcp_listing, "session", session)
    with pytest.raises(InfrastructureError, match=r"within 0.001 seconds; raise `timeout` of tools.t, which bounds"):
        asyncio.run(mcp_listing._ask(server))
