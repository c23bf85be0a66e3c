"""The programs of specs/gallery: each is checked, faked, replayed from its recording without a network, and has its page."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GALLERY = ROOT / "specs" / "gallery"
NAMES = sorted(path.parent.name for path in GALLERY.glob("*/README.md"))


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a replay has asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_BASE_URL", "_API_BASE"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(GALLERY / request.param)
    return GALLERY / request.param


each = pytest.mark.parametrize("folder", NAMES, indirect=True)


@each
def test_it_passes_a_strict_check(cli: Callable[..., Any], folder: Path) -> None:
    assert cli("check", f"{folder.name}.yaml", "--strict") == (0, "", "1 program: no findings\n")


@each
def test_its_tests_pass_from_the_recording(cli: Callable[..., Any], folder: Path, no_network: None) -> None:
    status, out, err = cli("test", f"{folder.name}.yaml", "--replay", "recording.jsonl", "--format", "json")
    document = json.loads(out)
    assert (status, document["failed"], document["errors"], err) == (0, 0, 0, "")
    (gate,) = [test["score"] for test in document["tests"] if "score" in test]
    rows = (folder / "dev.jsonl").read_text().splitlines()
    assert gate["n"] == len(rows) >= 8


@each
def test_it_runs_without_a_model(cli: Callable[..., Any], folder: Path, no_network: None, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    status, _, _ = cli("run", f"{folder.name}.yaml", "--fake", "--inputs", "dev.jsonl", "--out", out)
    assert (status, {json.loads(line)["error"] for line in out.read_text().splitlines()}) == (0, {None})


@each
def test_it_says_where_its_replies_are_from(folder: Path) -> None:
    page = (folder / "README.md").read_text()
    recording = page.split("## The recording")[1]
    models = {record["weights"] for record in records(folder) if record["kind"] == "lm"}
    assert "written by hand, to show the mechanism" in recording and "no score of a model" in recording
    assert ("of the real embedded model" in recording) == any(model.startswith("embedded/") for model in models)
    assert not [line for line in (folder / "recording.jsonl").read_text().splitlines() if str(ROOT) in line]


@each
def test_the_recorded_replies_are_the_written_ones(folder: Path) -> None:
    written = texts(yaml.safe_load((folder / "replies.yaml").read_text()))
    asked = [record for record in records(folder) if record["kind"] == "lm" and not is_embedded(record)]
    assert asked and {record["text"] for record in asked if not record.get("tool_calls")} <= written


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "recording.jsonl").read_text().splitlines()]


def is_embedded(record: dict[str, Any]) -> bool:
    return bool(record["weights"].startswith("embedded/"))


def texts(replies: dict[str, dict[str, Any]]) -> set[str]:
    """The texts of all written replies, as the server of specs/gallery/record.py sends them."""
    message = module(GALLERY / "record.py")._message
    found = [
        reply
        for by_text in replies.values()
        for said in by_text.values()
        for reply in (said if isinstance(said, list) else [said])
    ]
    return {message(reply)["content"] for reply in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["agent", "sql"])
def test_agents_run_with_their_real_tools(name: str, tmp_path: Path) -> None:
    if name == "agent":
        pytest.importorskip("mcp", reason="the server of the agent needs the MCP SDK: pip install 'lmprog[mcp]'")
    record = module(GALLERY / "record.py")
    server = record.serve(yaml.safe_load((GALLERY / name / "replies.yaml").read_text()))
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1",
        "OPENAI_API_KEY": "none",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    again = tmp_path / "again.jsonl"
    command = ["-c", "from lmprog.cli.main import main; main()", "test", f"{name}.yaml", "--record", str(again)]
    done = subprocess.run(
        [sys.executable, *command], cwd=GALLERY / name, env=environment, capture_output=True, text=True
    )
    server.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(again) == results(GALLERY / name / "recording.jsonl")


def results(recording: Path) -> list[Any]:
    """Return the arguments and results of the tools, in an order that does not depend on time."""
    found = [json.loads(line) for line in recording.read_text().splitlines()]
    return sorted(
        json.dumps([record["example"], record["arguments"], record.get("result"), record.get("error")])
        for record in found
        if record["kind"] == "tool"
    )


def test_the_pages_are_up_to_date() -> None:
    generate = module(ROOT / "docs" / "generate_gallery.py")
    assert sorted(generate.NAMES) == NAMES
    written = {path.name: path.read_text() for path in generate.PAGES.glob("*.md")}
    assert dict(generate.pages()) == written, "a program has changed: run .venv/bin/python docs/generate_gallery.py"
