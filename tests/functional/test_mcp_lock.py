"""Servers with all their tools: listed into the lock file, checked against it, called by steps and agents, found changed."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog import Completion
from lmprog.lms.lm import ToolCall

pytestmark = pytest.mark.slow
if find_spec("mcp") is None:
    pytest.skip("needs the extra 'mcp'", allow_module_level=True)

from tests.unit.lmprog.tools.test_mcp_tools import SERVER, address  # noqa: E402, F401 (a fixture)

PROGRAM = """
    lmprog: 1
    inputs: {{name: str}}
    outputs: {{sum: "${{{{ steps.sum.result }}}}", note: "${{{{ steps.note.result }}}}", reply: "${{{{ steps.reply.text }}}}",
      answer: "${{{{ steps.ask.answer }}}}"}}
    lms: {{m: {{model: openai/none, trusted: true}}}}
    tools:
      desk: {{mcp: {{{server}}}, only: [add, page], effects: read}}
      drawer: {{mcp: {{{server}, resource: "desk://drawers/{{name}}"}}}}
      greeting: {{mcp: {{{server}, prompt: greet}}}}
    modules:
      reply: {{lm: m, inputs: {{turns: messages}}, outputs: {{text: str}}}}
      ask: {{lm: m, inputs: {{name: str}}, outputs: {{answer: str}}, tools: [desk], instructions: Add.}}
    steps:
      sum: {{tool: desk.add, with: {{a: 3}}}}
      note: {{tool: drawer, with: {{name: "${{{{ inputs.name }}}}"}}}}
      greeting: {{tool: greeting, with: {{name: "${{{{ inputs.name }}}}"}}}}
      reply: {{module: reply, with: {{turns: "${{{{ steps.greeting.result }}}}"}}}}
      ask: {{module: ask, with: {{name: "${{{{ inputs.name }}}}"}}}}
"""
STDIO = (
    f"command: '{sys.executable}', args: ['{SERVER}'], type: stdio, "
    "env: {{DESK_CHANGED: '${{{{ env.CHANGED }}}}'}}"
)


class Desk:
    """An LM that greets as it is asked to, and as an agent adds and reports what it was offered."""

    def __init__(self) -> None:
        self.offered: list[str] = []

    async def complete(self, request: lmprog.Request) -> Completion:
        last = request.messages[-1]
        if last["role"] == "tool":
            return Completion(text=f"It is {last['content']}.")
        if not request.tools:
            return Completion(text=f"{last['content']} Done.")
        self.offered = [offer.name for offer in request.tools]
        call = ToolCall("1", "add", {"a": 1, "b": 2}, '{"a": 1, "b": 2}')
        return Completion(text="", tool_calls=(call,), finish_reason="tool_calls")


@pytest.mark.parametrize("over", ["stdio", "http"])
def test_a_server_is_listed_checked_and_called(write, cli, address, monkeypatch, over: str) -> None:  # noqa: F811
    monkeypatch.setenv("CHANGED", "")
    server = (STDIO if over == "stdio" else f"{address}, type: http").format()
    spec = write(PROGRAM.format(server=server))
    status, out, _ = cli("check", spec)
    assert status == 1 and "LMP604" in out and "run lmprog tools" in out  # the agent is not told what `add` takes
    status, out, err = cli("tools", spec)
    assert status == 0, err
    assert "desk: desk" in out and "  add(a: int, b?: int) writes: Adds two numbers." in out and "shout" not in out
    lock = json.loads(spec.with_suffix(".lock.json").read_text())
    (entry,) = lock["servers"]
    assert entry["ids"] == ["desk", "drawer", "greeting"] and len(entry["tools"]) == 9
    assert [found["uriTemplate"] for found in entry["templates"]] == ["desk://drawers/{drawer}"]
    assert cli("check", spec)[:2] == (0, "")
    assert cli("tools", spec, "--check")[0] == 0

    desk = Desk()
    result = asyncio.run(_run(spec, desk))
    assert result.outputs == {
        "sum": 4, "note": "pencils of Ann", "reply": "Greet Ann, friendly. Done.", "answer": "It is 3."
    }  # fmt: skip
    assert desk.offered == ["add", "page"]
    assert [(call.tool, call.result) for call in result.tool_calls if call.module] == [("desk.add", 3)]

    wrong = spec.with_name("wrong.yaml")
    wrong.write_text(spec.read_text().replace("with: {a: 3}", "with: {a: three, c: 3}"))
    spec.with_suffix(".lock.json").rename(wrong.with_suffix(".lock.json"))
    status, out, _ = cli("check", wrong, "--format", "json")
    assert status == 1
    argument, unknown = json.loads(out)["findings"]
    assert (argument["code"], unknown["code"]) == ("LMP604", "LMP604")
    assert "argument `a` of tool `desk.add` takes int" in argument["message"]
    assert "tool `desk.add` takes no argument `c`" in unknown["message"]


async def _run(spec: Path, lm: Any) -> lmprog.Result:
    program = lmprog.load(spec, lms={"m": lm})
    try:
        return await program.acall(name="Ann")
    finally:
        await program.aclose()


def test_each_spec_has_the_lock_file_of_the_servers_that_it_names(write, cli, address) -> None:  # noqa: F811
    """An overlay reads that of its base, and `lmprog tools` of one program leaves what only another names in a shared base."""
    page = write(
        f"""
        lmprog: 1
        inputs: {{title: str}}
        outputs: {{text: "${{{{ steps.get.page.text }}}}"}}
        tools: {{one: {{mcp: {{{address}, tool: page}}, result: page, effects: read}}}}
        steps: {{get: {{tool: one, with: {{title: "${{{{ inputs.title }}}}"}}}}}}
        """,
        "page.yaml",
    )
    base = write(
        f"""
        lmprog: 1
        inputs: {{title: str}}
        outputs: {{sum: "${{{{ steps.sum.result }}}}", text: "${{{{ steps.page.text }}}}"}}
        tools: {{desk: {{mcp: {{{address}}}, only: [add]}}}}
        steps:
          sum: {{tool: desk.add, with: {{a: 3}}}}
          page: {{program: ./page.yaml, with: {{title: "${{{{ inputs.title }}}}"}}}}
        """,
        "base.yaml",
    )
    overlay = write(
        f"""
        lmprog: 1
        extends: ./base.yaml
        tools: {{more: {{mcp: {{{address}}}, only: [shout]}}}}
        steps: {{loud: {{tool: more.shout, with: {{text: hey}}}}}}
        """,
        "overlay.yaml",
    )
    assert cli("tools", overlay, base)[0] == 0
    locks = {path.name: json.loads(path.read_text())["servers"] for path in base.parent.glob("*.lock.json")}
    found = {name: [entry["ids"] for entry in servers] for name, servers in locks.items()}
    assert found == {"base.lock.json": [["desk"]], "page.lock.json": [["one"]], "overlay.lock.json": [["more"]]}
    assert cli("check", base, page, overlay)[0] == 0
    assert lmprog.load(overlay)(title="Oslo").outputs == {"sum": 4, "text": "about Oslo"}
    shared = page.with_suffix(".lock.json")
    shared.write_text(shared.read_text().replace('"one"', '"other"').replace('"sha256:', '"sha256:0'))
    assert cli("tools", base)[0] == 0
    assert [entry["ids"] for entry in json.loads(shared.read_text())["servers"]] == [["one"], ["other"]]
    assert cli("tools", page)[0] == 0
    assert [entry["ids"] for entry in json.loads(shared.read_text())["servers"]] == [["one"]]


def test_a_server_that_changed_is_found(write, cli, monkeypatch) -> None:
    monkeypatch.setenv("CHANGED", "")
    spec = write(
        f"""
        lmprog: 1
        outputs: {{sum: "${{{{ steps.sum.result }}}}"}}
        tools: {{desk: {{mcp: {{{STDIO.format()}}}}}}}
        steps: {{sum: {{tool: desk.add, with: {{a: 3}}}}}}
        """
    )
    status, out, _ = cli("check", spec)
    assert status == 1 and out.count("LMP605") == 1 and "LMP103" not in out
    assert cli("tools", spec)[0] == 0
    lock = spec.with_suffix(".lock.json")
    written = lock.read_text()
    monkeypatch.setenv("CHANGED", "yes")
    lock.write_text(written.replace('"Adds two numbers."', '"Adds numbers."').replace('"title": "B"', '"title": "C"'))
    status, out, _ = cli("tools", spec, "--check", "--format", "json")
    assert status == 1 and [(found["code"], found["message"]) for found in json.loads(out)["findings"]] == [
        ("LMP605", "the MCP server of `desk` has the new tool `extra`"),
        (
            "LMP605",
            "the tool `add` of the MCP server of `desk` has another description, other parameters (`b` changed)",
        ),
    ]
    assert '"Adds numbers."' in lock.read_text()


@pytest.mark.parametrize(
    ("server", "status", "said"),
    [
        ("command: no-such-program-here", 3, "does not answer"),
        (f"command: '{sys.executable}', args: [-c, 'import os; raise SystemExit(os.environ[\"K\"])'], "
         "env: {K: '${{ env.DESK_KEY }}'}", 3, "[secret]"),
        ("command: x, env: {K: '${{ env.NOT_SET }}'}", 2, "NOT_SET"),
    ],
)  # fmt: skip
def test_a_server_that_does_not_answer_leaves_the_lock_file(
    write, cli, monkeypatch, server: str, status: int, said: str
) -> None:
    monkeypatch.setenv("DESK_KEY", "key-123456789")
    spec = write(
        f'lmprog: 1\noutputs: {{x: "${{{{ steps.x.result }}}}"}}\ntools: {{desk: {{mcp: {{{server}}}}}}}\n'
        "steps: {x: {tool: desk.x}}\n"
    )
    lock = spec.with_suffix(".lock.json")
    lock.write_text("as it was")
    found, _, err = cli("tools", spec)
    assert (found, lock.read_text()) == (status, "as it was")
    assert said in err and "key-123456789" not in err


def test_a_program_without_servers_has_nothing_to_list(cli, write) -> None:
    spec = write("lmprog: 1\nlms: {m: {model: openai/none}}\nmodules: {m: {inputs: {t: str}, outputs: {a: str}}}\n")
    status, _, err = cli("tools", spec)
    assert status == 2 and "tools.<id>.mcp" in err


FILES = "@modelcontextprotocol/server-filesystem@2026.8.31"


def test_a_server_of_npm(write, cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """The filesystem server of MCP's authors; `npx -y PACKAGE` once puts it into npm's cache."""
    if shutil.which("npx") is None:
        pytest.skip("needs node: there is no npx on the path")
    (tmp_path / "note.txt").write_text("Buy tea.")
    spec = write(
        f"""
        lmprog: 1
        inputs: {{path: str}}
        outputs: {{text: "${{{{ steps.read.result.content }}}}"}}
        tools:
          files:
            mcp: {{command: npx, args: [--offline, -y, "{FILES}", .]}}
            only: [read_text_file, list_directory]
            timeout: 300
        steps:
          read: {{tool: files.read_text_file, with: {{path: "${{{{ inputs.path }}}}", head: 1}}}}
        """
    )
    status, out, err = cli("tools", spec)
    if status == 3 and "npm error" in err:
        pytest.skip(f"needs {FILES} in npm's cache: npx -y {FILES} .")
    assert status == 0, err
    assert "  read_text_file(path: str, tail?: float, head?: float): Read the complete contents" in out
    assert cli("check", spec)[0] == 0
    inside, outside = asyncio.run(_runs(spec, str(tmp_path / "note.txt"), "/etc/hostname"))
    assert inside.outputs == {"text": "Buy tea."}
    assert outside.error is not None and "outside allowed directories" in outside.error.message


async def _runs(spec: Path, *paths: str) -> list[lmprog.Result]:
    program = lmprog.load(spec)
    try:
        return [await program.run({"path": path}) for path in paths]
    finally:
        await program.aclose()
