"""Tools and agents from the command line: search, an MCP server, an agent on a provider's own tool calls, their records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.traced import calls
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

SERVER = Path(__file__).resolve().parents[1] / "mcp_server.py"
SPEC = """
    lmprog: 1
    name: desk
    lms: {{lm: {{model: openai/gpt, api_base: "{url}", api_key: k, tool_protocol: {protocol}}}}}
    inputs: {{question: str}}
    outputs: {{answer: "${{{{ steps.ask.answer }}}}", shout: "${{{{ steps.loud.text }}}}"}}
    tools:
      find: {{search: {{corpus: corpus.jsonl, text: [title, text], key: title}}, result: titles}}
      shout: {{mcp: {{command: ["{python}", "{server}"], tool: shout, output: str}}, result: text}}
    modules:
      ask:
        lm: lm
        inputs: {{question: str}}
        outputs: {{answer: str}}
        tools: [find]
        max_turns: 3
    steps:
      ask: {{module: ask, with: {{question: "${{{{ inputs.question }}}}"}}}}
      loud: {{tool: shout, with: {{text: "${{{{ steps.ask.answer }}}}"}}}}
"""
CORPUS = [{"title": "Oslo", "text": "the capital of Norway"}, {"title": "Rome", "text": "the capital of Italy"}]


def calling(tool: str, arguments: str) -> tuple[int, dict[str, str], str]:
    """A reply of the provider that asks for a tool."""
    call = {"id": "c1", "type": "function", "function": {"name": tool, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "x",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }
    return 200, {}, json.dumps(body)


@pytest.fixture
def spec(write, provider, tmp_path, monkeypatch):
    monkeypatch.setenv("LMPROG_CACHE", str(tmp_path / "cache"))
    write("".join(json.dumps(row) + "\n" for row in CORPUS), "corpus.jsonl")

    def spec(protocol: str) -> Path:
        return write(SPEC.format(url=provider.url, protocol=protocol, python=sys.executable, server=SERVER))

    return spec


@pytest.mark.parametrize("protocol", ["native", "text"])
def test_an_agent_with_its_tools_in_the_trace(cli, spec, provider, tmp_path, protocol) -> None:
    pytest.importorskip("mcp")
    wanted = '{"query": "capital of Norway", "k": 1}'
    if protocol == "native":
        provider.replies = [calling("find", wanted), "Oslo"]
    else:
        provider.replies = [f'<call>{{"tool": "find", "arguments": {wanted}}}</call>', "Oslo"]
    trace = tmp_path / "trace.jsonl"
    status, out, err = cli("run", spec(protocol), "--input", "question=Where?", "--trace", trace)
    assert status == 0, err
    assert json.loads(out) == {"answer": "Oslo", "shout": "OSLO"}
    first, second = provider.requests
    assert ("tools" in first) == (protocol == "native")
    assert second["messages"][-1]["role"] == ("tool" if protocol == "native" else "user")
    assert '["Oslo"]' in second["messages"][-1]["content"]
    records = calls(trace)
    assert [(record["kind"], record["path"]) for record in records] == [
        ("lm", "ask"), ("tool", "ask"), ("lm", "ask"), ("tool", "loud"),
    ]  # fmt: skip
    tools = [record for record in records if record["kind"] == "tool"]
    assert (tools[0]["tool"], tools[0]["module"], tools[0]["result"]) == ("find", "ask", ["Oslo"])
    assert (tools[1]["tool"], tools[1]["arguments"], tools[1]["result"]) == ("shout", {"text": "Oslo"}, "OSLO")
    status, out, _ = cli("trace", trace)
    assert status == 0 and "find" in out and "shout" in out


def test_render_shows_the_words_of_the_protocol(cli, spec, tmp_path, write) -> None:
    path = spec("text")
    write('{"question": "Where?"}\n', "dev.jsonl")
    path.write_text(path.read_text() + "data: {dev: dev.jsonl}\n")
    status, out, _ = cli("render", path)
    assert status == 0 and "- find(query: str, k?: int): Finds the k entries" in out


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("max_turns: 3", "max_turns: 1"), "LMP101", "can call no tool: its only turn is for the reply"),
        (("tools: [find]", "tools: [find, shout]"), "LMP604", "is not told what arguments `shout` takes"),
        (("openai/gpt", "embedded/smollm2-135m"), "LMP101", "has no way of its own to call tools"),
    ],
)
def test_an_agent_that_cannot_work_is_found_by_check(cli, spec, change, code, said) -> None:
    path = spec("native")
    path.write_text(path.read_text().replace(*change))
    status, out, err = cli("check", path)
    assert status == 1 and code in out + err and said in out + err


def test_ctrl_c_ends_a_server_and_a_function_that_hangs(write, tmp_path) -> None:
    pytest.importorskip("mcp")
    begins = f"    open({str(tmp_path / 'hangs')!r}, 'w').close()\n"
    write(f"import time\n\n\ndef hang() -> str:\n{begins}    time.sleep(600)\n    return ''\n", "tools.py")
    path = write(f"""
        lmprog: 1
        outputs: {{a: "${{{{ steps.a.result }}}}", b: "${{{{ steps.b.result }}}}"}}
        tools:
          slow: {{mcp: {{command: ["{sys.executable}", "{SERVER}"], tool: sleeps}}}}
          hang: {{python: "./tools.py:hang"}}
        steps:
          a: {{tool: slow}}
          b: {{tool: hang}}
    """)
    main = "from lmprog.cli.main import main; main()"
    running = subprocess.Popen([sys.executable, "-c", main, "run", str(path)], stderr=subprocess.PIPE, text=True)
    (server,) = wait_until(lambda: served_by(running.pid), "the MCP server")
    wait_until((tmp_path / "hangs").exists, "the call of the function")
    running.send_signal(2)
    _, err = running.communicate(timeout=PATIENCE)  # the tool itself takes 600 seconds
    assert (running.returncode, err.strip()) == (130, "interrupted")
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def served_by(parent: int) -> list[int]:
    """The MCP servers that a process has started."""
    listed = subprocess.run(["ps", "-ewwo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    return [int(pid) for pid, of, args in rows if of == str(parent) and str(SERVER) in args]


def test_a_function_that_hangs_ends_in_time(cli, write) -> None:
    write("import time\n\n\ndef hang() -> str:\n    time.sleep(600)\n    return ''\n", "tools.py")
    path = write("""
        lmprog: 1
        outputs: {a: "${{ steps.a.result }}"}
        tools: {hang: {python: "./tools.py:hang", timeout: 0.2}}
        steps: {a: {tool: hang}}
    """)
    main = "from lmprog.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", main, "run", str(path)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (1, "lmprog: a: hang did not end within 0.2 seconds\n")


def test_without_the_sdk_one_sentence_says_how_to_get_it(cli, spec, provider, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    status, _, err = cli("run", spec("native"), "--input", "question=Where?")
    assert status == 2 and "pip install 'lmprog[mcp]'" in err
