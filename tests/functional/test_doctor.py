"""`lmprog doctor`: what is here, what a program needs, and what its servers answer to a question that costs nothing."""

from __future__ import annotations

import json
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmprog.compiler.provider_keys import KEYS
from lmprog.extras import BRINGS, EXTRA_OF

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "specs" / "quickstart.yaml"
KEY = "sk-a-key-of-the-test"
SPEC = """
    lmprog: 1
    name: asked
    inputs: {text: str}
    outputs: {reply: "${{ steps.ask.reply }}"}
    lms: {m: {model: MODEL, BASE}}
    TOOLS
    modules: {ask: {lm: m, inputs: {text: str}, outputs: {reply: str}}}
    steps: {ask: {module: ask, with: {text: "${{ inputs.text }}"}}, MORE}
"""


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in KEYS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def spec(write: Callable[..., Path]) -> Callable[..., Path]:
    def make(model: str = "openai/small", base: str = "", tools: str = "", more: str = "") -> Path:
        text = SPEC.replace("MODEL, BASE", f"{model}, {base}" if base else model)
        return write(text.replace("TOOLS", tools).replace(", MORE", f", {more}" if more else ""))

    return make


class Models:
    """A server that lists models; `answer` is a status and a body."""

    def __init__(self) -> None:
        self.answer: tuple[int, str] = (200, json.dumps({"data": [{"id": "small"}, {"id": "other"}]}))
        self.asked: list[tuple[str, str | None]] = []
        models = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                models.asked.append((self.path, self.headers["authorization"]))
                status, body = models.answer
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def models() -> Iterator[Models]:
    found = Models()
    yield found
    found.server.shutdown()
    found.server.server_close()


def lines(out: str, section: str) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in json.loads(out)["lines"] if line["section"] == section}


def test_what_is_here(cli, monkeypatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    status, out, err = cli("doctor")
    assert (status, err) == (0, "")
    assert re.findall(r"^\w+$", out, re.MULTILINE) == ["Installed", "Extras", "Keys", "Files", "Machine"]
    assert "ANTHROPIC_API_KEY is set" in out and KEY not in out
    assert "not set" in out and "OPENAI_API_KEY" in out
    status, again, _ = cli("doctor", "--json")
    assert status == 0 and json.loads(again)["ok"] and KEY not in again
    assert {*lines(again, "Extras")} == {*BRINGS}


def test_an_extra_that_is_missing_has_its_command(cli, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    status, out, _ = cli("doctor", "--format", "json")
    found = lines(out, "Extras")["search"]
    assert (status, found["status"], found["fix"]) == (0, "note", "pip install 'lmprog[search]'")
    assert found["said"] == "without bm25s: the search tool, and demos chosen for each call"


def test_each_extra_for_users_is_listed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*BRINGS} <= {*extras}
    assert {*EXTRA_OF.values()} == {*BRINGS}


@pytest.mark.slow
def test_the_quickstart_can_run_here(cli) -> None:
    pytest.importorskip("torch")
    status, out, _ = cli("doctor", QUICKSTART, "--json")
    assert status == 0
    stages = {
        f"stage {name}" for stage in yaml.safe_load(QUICKSTART.read_text())["optimize"]["stages"] for name in stage
    }
    assert {*lines(out, "Program")} == {"quickstart", "student: embedded/smollm2-135m", *stages}


def test_a_program_with_errors(cli, write) -> None:
    path = write("lmprog: 1\ninputs: {a: strr}\n")
    status, out, _ = cli("doctor", path, "--json")
    (found,) = lines(out, "Program").values()
    assert (status, found["status"], found["fix"]) == (1, "problem", f"lmprog check {path}")


@pytest.mark.parametrize(
    ("model", "base", "said", "fix"),
    [
        (
            "openai/gpt-4.1-mini",
            "",
            "the LM 'm' (openai/gpt-4.1-mini) has no key",
            "set OPENAI_API_KEY in the environment",
        ),
        ("anthropic/claude-sonnet-4-5", "", "its key is not set", "set ANTHROPIC_API_KEY in the environment"),
        ("openai/x", 'api_key: "${{ env.MINE }}"', "'MINE' is absent", "set the variable in the environment"),
    ],
)
def test_a_key_that_is_missing(cli, spec, model: str, base: str, said: str, fix: str) -> None:
    status, out, _ = cli("doctor", spec(model, base), "--json")
    found = lines(out, "Program")[f"m: {model}"]
    assert (status, found["status"]) == (1, "problem")
    assert said in found["said"] and found["fix"].startswith(fix)
    status, out, _ = cli("doctor", spec(model, base), "--lm", "m=embedded/smollm2-135m", "--json")
    assert f"m: {model}" not in lines(out, "Program")


def test_a_model_whose_extra_is_missing(cli, spec, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    status, out, _ = cli("doctor", spec("hf/owner/name"))
    assert status == 1 and "fix: pip install 'lmprog[local]'" in out


def test_tools(cli, spec, monkeypatch) -> None:
    server = "mcp: {command: [no-such-command, x], tool: look, output: str}"
    path = spec(
        base="api_base: http://localhost:1/v1", tools=f"tools: {{look: {{{server}}}}}", more="look: {tool: look}"
    )
    status, out, _ = cli("doctor", path, "--json")
    found = lines(out, "Program")["look (mcp)"]
    assert (status, found["said"]) == (1, "there is no command 'no-such-command' on the path")
    assert found["fix"] == "install it, or write its path: tools.look.mcp.command"
    monkeypatch.setitem(sys.modules, "mcp", None)
    _, out, _ = cli("doctor", path, "--json")
    assert lines(out, "Program")["look (mcp)"]["fix"] == "pip install 'lmprog[mcp]'"


def test_programs_that_are_called_and_that_judge_have_their_needs_too(cli, write) -> None:
    inner = """
        lmprog: 1
        inputs: {text: str}
        outputs: {score: "${{ steps.ask.score }}"}
        lms: {ID: {model: openai/ID}}
        modules: {ask: {lm: ID, inputs: {text: str}, outputs: {score: float}}}
        steps: {ask: {module: ask, with: {text: "${{ inputs.text }}"}}}
    """
    write(inner.replace("ID", "called"), "called.yaml")
    write(inner.replace("ID", "judge"), "judge.yaml")
    spec = write("""
        lmprog: 1
        name: outer
        inputs: {text: str}
        outputs: {score: "${{ steps.a.score + steps.b.score }}"}
        steps:
          a: {program: ./called.yaml, with: {text: "${{ inputs.text }}"}}
          b: {program: ./called.yaml, with: {text: "${{ inputs.text }}"}}
        metrics: {good: {program: ./judge.yaml, with: {text: "${{ str(outputs.score) }}"}}}
    """)
    status, out, _ = cli("doctor", spec, "--json")
    names = [line["name"] for line in json.loads(out)["lines"] if line["section"] == "Program"]
    assert (status, names) == (1, ["outer", "called: openai/called", "judge: openai/judge"])


def test_nothing_is_asked_unless_that_is_wanted(cli, spec, models) -> None:
    assert cli("doctor", spec(base=f"api_base: {models.url}/v1"))[0] == 0
    assert models.asked == []
    status, _, err = cli("doctor", "--reach")
    assert status == 2 and "name the program" in err


def test_a_server_that_has_the_model(cli, spec, models, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{models.url}/v1")
    status, out, _ = cli("doctor", spec(), "--reach", "--json")
    found = lines(out, "Reach")["m: openai/small"]
    assert (status, found["said"]) == (0, f"GET {models.url}/v1/models: it answers, and has small")
    assert models.asked == [("/v1/models", f"Bearer {KEY}")] and KEY not in out


@pytest.mark.slow
def test_ollama_is_asked_in_its_own_way(cli, spec, models) -> None:
    pytest.importorskip("litellm")
    models.answer = 200, json.dumps({"models": [{"name": "llama3:latest"}]})
    status, out, _ = cli("doctor", spec("ollama/llama3", f"api_base: {models.url}"), "--reach")
    assert status == 0 and f"GET {models.url}/api/tags: it answers, and has llama3" in out


@pytest.mark.parametrize(
    ("answer", "status", "said", "fix"),
    [
        ((200, '{"data": [{"id": "b"}, {"id": "a"}]}'), 1, "it answers, and has no small", "it has: a, b"),
        ((200, '{"data": []}'), 1, "it answers, and has no small", "it has: no model"),
        ((401, '{"error": {"message": "the key sk-a-key-of-the-test is wrong"}}'), 1, "the key [key] is wrong", "key"),
        ((404, "nothing"), 1, "HTTP 404", "address"),
        ((200, "<html>"), 0, "it answers, and not with a list of models", None),
        ((200, '{"data": 3}'), 0, "it answers, and not with a list of models", None),
        ((200, '[["x"]]'), 0, "it answers, and not with a list of models", None),
    ],
)
def test_what_servers_answer(cli, spec, models, monkeypatch, answer, status: int, said: str, fix: str | None) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    models.answer = answer
    found_status, out, _ = cli("doctor", spec(base=f"api_base: {models.url}/v1"), "--reach", "--json")
    found = lines(out, "Reach")["m: openai/small"]
    assert (found_status, said in found["said"], KEY in out) == (status, True, False)
    assert fix is None if found["fix"] is None else fix in found["fix"]


def test_a_server_that_is_not_there(cli, spec, closed_port) -> None:
    status, out, _ = cli("doctor", spec(base=f"api_base: http://127.0.0.1:{closed_port}/v1"), "--reach")
    assert status == 1 and "fix: start the server, or correct its address or key" in out


@pytest.mark.slow
def test_a_provider_without_a_free_question_is_not_asked(cli, spec, monkeypatch) -> None:
    pytest.importorskip("litellm")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    status, out, _ = cli("doctor", spec("anthropic/claude-sonnet-4-5"), "--reach")
    assert status == 0 and "not asked: lmprog knows no question there that costs nothing" in out


@pytest.mark.model
def test_the_speed_of_the_engine(cli) -> None:
    status, out, _ = cli("doctor", "--engine", "--json")
    (found,) = lines(out, "Engine").values()
    assert status == 0
    read, written = re.match(r"reads ([\d,]+) and writes ([\d,]+) tokens a second", found["said"]).groups()
    assert int(read.replace(",", "")) > int(written.replace(",", "")) > 0
